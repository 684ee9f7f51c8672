//! A model that the user gives, in the JSON of the `SunSpec` Alliance
//! (<https://github.com/sunspec/models>), read as `scripts/sunspec.py` reads it for the table.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use serde_json::Value;

use super::model::{Model, Points, Scale, Tail};

/// A definition is some 100 KB at most.
const LONGEST: u64 = 1 << 20;

/// The model that a file defines, or what is wrong with it.
pub(super) fn read(path: &Path) -> Result<Model, String> {
    let name = path.display();
    let unreadable = |cause: std::io::Error| format!("cannot read {name}: {cause}");
    // Whoever opens a pipe waits for its other end.
    if !path.metadata().map_err(unreadable)?.is_file() {
        return Err(format!("{name} is no file"));
    }
    let mut text = String::new();
    let file = File::open(path).map_err(unreadable)?;
    let read = file.take(LONGEST + 1).read_to_string(&mut text).map_err(unreadable)?;
    if u64::try_from(read).is_ok_and(|read| read > LONGEST) {
        return Err(format!("{name} is longer than 1 MiB: it is no model"));
    }
    model(&text).map_err(|what| format!("{name} is no model in SunSpec's JSON: {what}"))
}

/// The same of a text.
pub(super) fn model(text: &str) -> Result<Model, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let group = value.get("group").ok_or("it has no `group`")?;
    let all = list(group, "points");
    let id = all.first().and_then(|id| id.get("value")).and_then(Value::as_u64);
    let id = id.and_then(|id| u16::try_from(id).ok()).filter(|id| (1..0xFFFF).contains(id));
    let id = id.ok_or("its point ID has no `value`")?;
    let word = word(group, "name").ok_or("its `group` has no `name`")?;
    let (head, tail) = (Points::default(), Tail::Nothing);
    let mut model = Model { ids: vec![id], word: word.into(), head, tail };
    let groups = list(group, "groups");
    let mut own = all.get(2..).unwrap_or_default();
    if let [others @ .., last] = own
        && groups.is_empty()
        && last.get("type").and_then(Value::as_str) == Some("pad")
    {
        // Some devices leave it out.
        own = others;
    }
    push(&mut model.head, own, "")?;
    for (index, part) in groups.iter().enumerate() {
        let name = self::word(part, "name").ok_or("a group has no `name`")?;
        let is_last = index + 1 == groups.len();
        match part.get("count") {
            _ if !list(part, "groups").is_empty() => model.tail = Tail::Unknown,
            None => {
                push(&mut model.head, list(part, "points"), &format!("{name}_"))?;
                continue;
            }
            Some(_) if !is_last => model.tail = Tail::Unknown,
            Some(_) => {
                let mut points = Points::default();
                push(&mut points, list(part, "points"), "")?;
                model.tail = Tail::Each(name.into(), points);
            }
        }
        break;
    }
    match model.unscaled() {
        None => Ok(model),
        Some(point) => Err(format!("the `sf` of point {} is no point of one register", point.name)),
    }
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A text without the blanks and commas that would part it.
fn word(value: &Value, key: &str) -> Option<String> {
    let text = value.get(key)?.as_str()?.trim();
    (!text.is_empty()).then(|| text.replace(|c: char| c.is_whitespace() || c == ',', "_"))
}

fn push(to: &mut Points, points: &[Value], prefix: &str) -> Result<(), String> {
    for point in points {
        let name = word(point, "name").ok_or("a point has no `name`")?;
        let kind = kind(point).ok_or_else(|| format!("point {name} has no `type` or `size`"))?;
        let factor = scale(point).map_err(|what| format!("point {name} {what}"))?;
        let symbols = list(point, "symbols").iter().filter_map(|symbol| {
            Some((symbol.get("value")?.as_i64()?.into(), word(symbol, "name")?.into()))
        });
        let named = format!("{prefix}{name}").into();
        to.add(named, &kind, factor, unit(point).map(Into::into), symbols.collect())
            .map_err(|expected| format!("point {name} has no {expected}"))?;
    }
    Ok(())
}

fn scale(point: &Value) -> Result<Option<Scale>, String> {
    let factor = match point.get("sf") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Number(always)) => always.to_string(),
        Some(_) => word(point, "sf").ok_or("has an `sf` that is no name and no number")?,
    };
    match factor.parse::<f64>() {
        Err(_) => Ok(Some(Scale::Point(factor.into()))),
        Ok(_) => match factor.parse::<i8>() {
            Ok(always @ -10..=10) => Ok(Some(Scale::Always(always))),
            _ => Err(format!("has the `sf` {factor}: it is within -10 to 10")),
        },
    }
}

fn unit(point: &Value) -> Option<&str> {
    Some(match point.get("units")?.as_str()?.trim() {
        "" => return None,
        "C" => "°C",
        "Pct" => "%",
        "Secs" => "s",
        unit => unit,
    })
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

    use super::super::model;
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
        let sf = |sf: &str| {
            let point = format!(r#"{{ "name": "W", "type": "int16", "sf": {sf} }}"#);
            let factor = r#"{ "name": "W_SF", "type": "sunssf" }"#;
            let points = format!(r#"{{ "value": 7 }}, {{}}, {point}, {factor}"#);
            model(&format!(r#"{{ "group": {{ "name": "a", "points": [{points}] }} }}"#))
        };
        assert!(sf("\"W_SF\"").is_ok() && sf("-3").is_ok() && sf("null").is_ok());
        let lost = "the `sf` of point W is no point of one register";
        assert_eq!(sf("\"V_SF\"").unwrap_err(), lost);
        for wrong in ["11", "-1.5", "300"] {
            let what = format!("point W has the `sf` {wrong}: it is within -10 to 10");
            assert_eq!(sf(wrong).unwrap_err(), what);
        }
        let nothing = r#"{ "group": { "name": "a", "points": [{ "value": 7 }, {},
          { "name": "Id", "type": "string", "size": 0 }] } }"#;
        assert_eq!(model(nothing).unwrap_err(), "point Id has no type");
        let missing = read(Path::new("/nowhere/model.json")).unwrap_err();
        assert!(missing.starts_with("cannot read /nowhere/model.json: "), "{missing}");
    }

    #[test]
    fn names_that_mean_something_in_the_table_are_names() {
        let text = r##"{ "group": { "name": "a", "points": [{ "value": 7 }, {},
          { "name": "#1", "type": "uint16" }, { "name": "each one", "type": "uint16" },
          { "name": "more", "type": "uint16" }, { "name": "-", "type": "uint16" }] } }"##;
        let pump = model(text).unwrap();
        let places: Vec<_> = pump.head.points.iter().map(|p| (&*p.name, p.offset)).collect();
        assert_eq!(places, [("#1", 0), ("each_one", 1), ("more", 2), ("-", 3)]);
    }

    #[test]
    fn the_alliances_own_definitions_are_read_as_they_stand_in_the_table() {
        for text in [
            include_str!("definitions/model_1.json"),
            include_str!("definitions/model_160.json"),
            include_str!("definitions/model_704.json"),
        ] {
            let own = model(text).unwrap();
            let known = model::known().iter().find(|model| model.ids == own.ids).unwrap();
            let expected = Model { word: own.word.clone(), ..Model::clone(known) };
            assert_eq!(own, expected);
        }
    }

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read(folder.path()).unwrap_err().ends_with(" is no file"));
        assert_eq!(read(Path::new("/dev/zero")).unwrap_err(), "/dev/zero is no file");
        let long = folder.path().join("long.json");
        std::fs::write(&long, " ".repeat((1 << 20) + 1)).unwrap();
        assert!(read(&long).unwrap_err().ends_with(" is longer than 1 MiB: it is no model"));
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
