//! A model that the user gives, in the JSON of the `SunSpec` Alliance
//! (<https://github.com/sunspec/models>): made lines of the table, and read as these are.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

use super::model::{self, Model};

/// A definition is some 100 KB at most.
const LONGEST: u64 = 1 << 20;

/// The model that a file defines, or what is wrong with it.
pub(super) fn read(path: &Path) -> Result<Model, String> {
    let name = path.display();
    let unreadable = |cause: std::io::Error| format!("cannot read {name}: {cause}");
    if path.metadata().map_err(unreadable)?.len() > LONGEST {
        return Err(format!("{name} is longer than 1 MiB: it is no model"));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    model(&text).map_err(|what| format!("{name} is no model in SunSpec's JSON: {what}"))
}

/// The same of a text.
pub(super) fn model(text: &str) -> Result<Model, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let group = value.get("group").ok_or("it has no `group`")?;
    let all = points(group);
    let id = all.first().and_then(|id| id.get("value")).and_then(Value::as_u64);
    let id = id.filter(|id| (1..0xFFFF).contains(id)).ok_or("its point ID has no `value`")?;
    let word = word(group, "name").ok_or("its `group` has no `name`")?;
    let mut lines = format!("model {id} {word}\n");
    push(&mut lines, all.get(2..).unwrap_or_default())?;
    let groups = group.get("groups").and_then(Value::as_array);
    match groups.map(Vec::as_slice) {
        None | Some([]) => {}
        Some([one]) if one.get("groups").is_none() && one.get("count").is_some() => {
            let name = self::word(one, "name").ok_or("a group has no `name`")?;
            writeln!(lines, "each {name}").ok();
            push(&mut lines, points(one))?;
        }
        Some(_) => lines.push_str("more\n"),
    }
    let models = model::parse(&lines).map_err(|mistake| mistake.to_string())?;
    models.into_iter().next().ok_or_else(|| "it is empty".to_owned())
}

fn points(group: &Value) -> &[Value] {
    group.get("points").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A text without blanks, which part the words of a line.
fn word(value: &Value, key: &str) -> Option<String> {
    let text = value.get(key)?.as_str()?.trim();
    (!text.is_empty()).then(|| text.replace(char::is_whitespace, "_"))
}

fn push(lines: &mut String, points: &[Value]) -> Result<(), String> {
    for point in points {
        let name = word(point, "name").ok_or("a point has no `name`")?;
        let kind = kind(point).ok_or_else(|| format!("point {name} has no `type` or `size`"))?;
        let factor = match point.get("sf") {
            Some(Value::Number(always)) => always.to_string(),
            _ => word(point, "sf").unwrap_or_else(|| "-".to_owned()),
        };
        let unit = word(point, "units").unwrap_or_else(|| "-".to_owned());
        let symbols = point.get("symbols").and_then(Value::as_array);
        let names = symbols.into_iter().flatten().filter_map(|symbol| {
            let name = word(symbol, "name")?.replace(',', "_");
            Some(format!("{}={name}", symbol.get("value")?.as_i64()?))
        });
        let names = names.collect::<Vec<_>>().join(",");
        let names = if names.is_empty() { "-" } else { &names };
        // Writing to a text does not fail.
        writeln!(lines, "{name} {kind} {factor} {unit} {names}").ok();
    }
    Ok(())
}

/// The table's word for a point's type.
fn kind(point: &Value) -> Option<String> {
    let size = || point.get("size").and_then(Value::as_u64);
    let kind = match point.get("type")?.as_str()? {
        "int16" => "i16",
        "int32" => "i32",
        "int64" => "i64",
        "uint16" | "raw16" | "count" => "u16",
        "uint32" => "u32",
        "uint64" => "u64",
        "acc16" => "acc16",
        "acc32" => "acc32",
        "acc64" => "acc64",
        "enum16" => "enum16",
        "enum32" => "enum32",
        "bitfield16" => "bits16",
        "bitfield32" => "bits32",
        "bitfield64" => "bits64",
        "float32" => "f32",
        "float64" => "f64",
        "sunssf" => "sf",
        "string" => return Some(format!("text{}", size()?)),
        _ => return Some(format!("skip{}", size()?)),
    };
    Some(kind.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_definition_is_read_as_the_table_is() {
        let text = r#"{ "id": 64001, "group": { "name": "pump", "points": [
          { "name": "ID", "type": "uint16", "size": 1, "value": 64001 },
          { "name": "L", "type": "uint16", "size": 1 },
          { "name": "Flow", "type": "int16", "size": 1, "sf": -1, "units": "m3/h" },
          { "name": "W", "type": "acc32", "size": 2, "sf": "W_SF" },
          { "name": "W_SF", "type": "sunssf", "size": 1 },
          { "name": "St", "type": "enum16", "size": 1,
            "symbols": [{ "name": "OFF", "value": 0 }, { "name": "RUN, FAST", "value": 1 }] },
          { "name": "Id", "type": "string", "size": 4 },
          { "name": "Net", "type": "ipv6addr", "size": 8 }],
          "groups": [{ "name": "stage", "count": 0, "points": [
            { "name": "Hz", "type": "uint16", "size": 1, "sf": -2 }] }] } }"#;
        let table = "model 64001 pump\nFlow i16 -1 m3/h -\nW acc32 W_SF - -\nW_SF sf - - -\n\
                     St enum16 - - 0=OFF,1=RUN__FAST\nId text4 - - -\nNet skip8 - - -\n\
                     each stage\nHz u16 -2 - -\n";
        let expected = model::parse(table).unwrap().remove(0);
        assert_eq!(model(text).unwrap(), expected);
        assert_eq!((expected.repeats(17), expected.repeats(19)), (Some(0), Some(2)));
    }

    #[test]
    fn what_is_no_definition_is_named() {
        for (text, what) in [
            ("{}", "it has no `group`"),
            (r#"{ "group": { "name": "a", "points": [] } }"#, "its point ID has no `value`"),
            (
                r#"{ "group": { "name": "a", "points": [{ "value": 7 }, {}, { "name": "W" }] } }"#,
                "point W has no `type` or `size`",
            ),
        ] {
            assert_eq!(model(text), Err(what.to_owned()));
        }
        let missing = read(Path::new("/nowhere/model.json")).unwrap_err();
        assert!(missing.starts_with("cannot read /nowhere/model.json: "), "{missing}");
    }

    proptest! {
        #[test]
        fn any_text_is_a_model_or_not(
            text in any::<String>(),
            name in any::<String>(),
            kind in any::<String>(),
            size in any::<i64>(),
        ) {
            drop(model(&text));
            let point = serde_json::json!({ "name": name, "type": kind, "size": size });
            let points = [serde_json::json!({ "value": 7 }), point.clone(), point];
            let text = serde_json::json!({ "group": { "name": name, "points": points } });
            drop(model(&text.to_string()));
        }
    }
}
