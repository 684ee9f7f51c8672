//! The JSON Schema of the configuration, read as what it means for a person:
//! tables with keys, lists, words, numbers, and tables of several types.
//!
//! The schema that is published for editors, the check of a file, the values
//! of the environment and the test that `configs/` is complete all read it
//! through here, so that none of them can say something else than the types.

use serde_json::Value;

/// The JSON Schema of the whole configuration, for editors.
pub fn schema() -> Value {
    let mut schema = schemars::schema_for!(super::Config).to_value();
    if let Some(top) = schema.as_object_mut() {
        top.insert("title".into(), "Tidegate's configuration".into());
    }
    schema
}

/// A place in a schema.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape<'s> {
    root: &'s Value,
    at: &'s Value,
}

/// What may stand in one place.
#[derive(Debug)]
pub(crate) enum Form<'s> {
    Any,
    Bool,
    Text,
    Period,
    ByteSize,
    Percent,
    Room,
    Words(Vec<&'s str>),
    Integer {
        min: i128,
        max: i128,
    },
    Number {
        min: f64,
        max: f64,
    },
    /// `first` are the entries that have a form of their own, by their place.
    List {
        first: Vec<Shape<'s>>,
        items: Option<Shape<'s>>,
        min: usize,
        max: usize,
    },
    Table(Table<'s>),
    /// A table whose key `tag` says which of these it is.
    Tagged {
        tag: &'s str,
        variants: Vec<(&'s str, Table<'s>)>,
    },
    /// A table with exactly one of these keys.
    OneKey(Vec<(&'s str, Shape<'s>)>),
    /// Whatever one of these takes.
    OneOf(Vec<Shape<'s>>),
}

/// A table's keys.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Table<'s>(Shape<'s>);

impl<'s> Shape<'s> {
    pub(crate) fn of(root: &'s Value) -> Self {
        Self { root, at: root }
    }

    fn to(self, at: &'s Value) -> Self {
        Self { at, ..self }
    }

    fn resolved(self) -> Self {
        let target = self.at.get("$ref").and_then(Value::as_str);
        match target.and_then(|path| self.root.pointer(path.strip_prefix('#')?)) {
            Some(at) => self.to(at).resolved(),
            None => self,
        }
    }

    fn word(self, keyword: &str) -> Option<&'s str> {
        self.at.get(keyword).and_then(Value::as_str)
    }

    /// The type, without the `null` by which an optional value is said.
    fn types(self) -> Vec<&'s str> {
        let given = match self.at.get("type") {
            Some(Value::String(one)) => vec![one.as_str()],
            Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        given.into_iter().filter(|name| *name != "null").collect()
    }

    fn is_null(self) -> bool {
        self.word("type") == Some("null")
    }

    /// The words of a `const` or an `enum`.
    fn words(self) -> Option<Vec<&'s str>> {
        let shape = self.resolved();
        if let Some(word) = shape.word("const") {
            return Some(vec![word]);
        }
        Some(shape.at.get("enum")?.as_array()?.iter().filter_map(Value::as_str).collect())
    }

    pub(crate) fn form(self) -> Form<'s> {
        let shape = self.resolved();
        for keyword in ["oneOf", "anyOf", "allOf"] {
            let Some(given) = shape.at.get(keyword).and_then(Value::as_array) else { continue };
            let choices: Vec<_> =
                given.iter().map(|at| shape.to(at)).filter(|choice| !choice.is_null()).collect();
            return from_choices(choices, keyword == "oneOf");
        }
        if let Some(words) = shape.words() {
            return Form::Words(words);
        }
        match (shape.types().as_slice(), shape.word("format")) {
            (["string"], Some("period")) => Form::Period,
            (["string"], Some("bytesize")) => Form::ByteSize,
            (["string"], Some("percent")) => Form::Percent,
            (["string"], Some("room")) => Form::Room,
            (["string"], _) => Form::Text,
            (["boolean"], _) => Form::Bool,
            (["integer"], format) => shape.integer(format),
            (["number"], _) => shape.number(),
            (["array"], _) => shape.list(),
            (["object"], _) => Form::Table(Table(shape)),
            _ => Form::Any,
        }
    }

    fn list(self) -> Form<'s> {
        let bound = |keyword| {
            let number = self.at.get(keyword).and_then(Value::as_u64)?;
            usize::try_from(number).ok()
        };
        let first = self.at.get("prefixItems").and_then(Value::as_array);
        Form::List {
            first: first.into_iter().flatten().map(|at| self.to(at)).collect(),
            items: self.at.get("items").map(|at| self.to(at)),
            min: bound("minItems").unwrap_or(0),
            max: bound("maxItems").unwrap_or(usize::MAX),
        }
    }

    fn number(self) -> Form<'s> {
        let bound = |keyword| self.at.get(keyword).and_then(Value::as_f64);
        Form::Number {
            min: bound("minimum").unwrap_or(f64::NEG_INFINITY),
            max: bound("maximum").unwrap_or(f64::INFINITY),
        }
    }

    fn integer(self, format: Option<&str>) -> Form<'s> {
        let (lowest, highest) = match format {
            Some("int8") => (i8::MIN.into(), i8::MAX.into()),
            Some("int16") => (i16::MIN.into(), i16::MAX.into()),
            Some("int32") => (i32::MIN.into(), i32::MAX.into()),
            Some("uint8") => (0, u8::MAX.into()),
            Some("uint16") => (0, u16::MAX.into()),
            Some("uint32") => (0, u32::MAX.into()),
            Some("uint64" | "uint") => (0, i64::MAX.into()),
            _ => (i128::from(i64::MIN), i128::from(i64::MAX)),
        };
        let bound = |keyword| self.at.get(keyword).and_then(Value::as_i64).map(i128::from);
        Form::Integer {
            min: bound("minimum").map_or(lowest, |min| min.max(lowest)),
            max: bound("maximum").map_or(highest, |max| max.min(highest)),
        }
    }
}

fn from_choices(choices: Vec<Shape<'_>>, exclusive: bool) -> Form<'_> {
    if exclusive && !choices.is_empty() {
        if let Some(words) = choices.iter().map(|choice| choice.words()).collect::<Option<Vec<_>>>()
        {
            return Form::Words(words.concat());
        }
        if let Some((tag, variants)) = tagged(&choices) {
            return Form::Tagged { tag, variants };
        }
        if let Some(keys) = choices.iter().map(|choice| only_key(*choice)).collect() {
            return Form::OneKey(keys);
        }
    }
    match choices.as_slice() {
        [only] => only.form(),
        _ => Form::OneOf(choices),
    }
}

/// The key that all of these tables have with one fixed word each, and the
/// tables by that word.
fn tagged<'s>(choices: &[Shape<'s>]) -> Option<(&'s str, Vec<(&'s str, Table<'s>)>)> {
    let tables: Vec<_> = choices.iter().map(|choice| choice.to_table()).collect::<Option<_>>()?;
    let tags = tables.first()?.keys().into_iter().map(|(key, _)| key);
    tags.into_iter().find_map(|tag| {
        let variants = tables.iter().map(|table| match table.get(tag)?.words()?.as_slice() {
            [word] => Some((*word, *table)),
            _ => None,
        });
        Some((tag, variants.collect::<Option<Vec<_>>>()?))
    })
}

/// The key of a table that has, and must have, exactly one.
fn only_key(choice: Shape<'_>) -> Option<(&str, Shape<'_>)> {
    let table = choice.to_table()?;
    match (table.keys().as_slice(), table.others()) {
        ([one], Others::Refused) if table.requires(one.0) => Some(*one),
        _ => None,
    }
}

impl<'s> Shape<'s> {
    fn to_table(self) -> Option<Table<'s>> {
        let is_table = self.at.get("properties").is_some();
        let shape = if is_table { self } else { self.resolved() };
        (shape.types() == ["object"]).then_some(Table(shape))
    }
}

/// What a table does with keys that it does not name.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Others<'s> {
    Refused,
    Taken,
    /// A map: any key, each with such a value.
    Each(Shape<'s>),
}

impl<'s> Table<'s> {
    /// This table and the one that it refers to besides its own keys, which is
    /// how a tag stands beside the keys of its variant.
    fn parts(self) -> impl Iterator<Item = Shape<'s>> {
        let behind = self.0.at.get("$ref").is_some().then(|| self.0.resolved());
        std::iter::once(self.0).chain(behind)
    }

    pub(crate) fn keys(self) -> Vec<(&'s str, Shape<'s>)> {
        self.parts()
            .filter_map(|part| Some((part, part.at.get("properties")?.as_object()?)))
            .flat_map(|(part, keys)| keys.iter().map(move |(key, at)| (key.as_str(), part.to(at))))
            .collect()
    }

    pub(crate) fn get(self, key: &str) -> Option<Shape<'s>> {
        self.keys().into_iter().find(|(name, _)| *name == key).map(|(_, shape)| shape)
    }

    pub(crate) fn required(self) -> Vec<&'s str> {
        self.parts()
            .filter_map(|part| part.at.get("required")?.as_array())
            .flatten()
            .filter_map(Value::as_str)
            .collect()
    }

    pub(crate) fn requires(self, key: &str) -> bool {
        self.required().contains(&key)
    }

    pub(crate) fn others(self) -> Others<'s> {
        for part in self.parts() {
            for keyword in ["additionalProperties", "unevaluatedProperties"] {
                match part.at.get(keyword) {
                    Some(Value::Bool(false)) => return Others::Refused,
                    Some(at @ Value::Object(_)) => return Others::Each(part.to(at)),
                    _ => {}
                }
            }
        }
        Others::Taken
    }
}

/// The path of every key that the schema names, `[]` for a list's entries,
/// `*` for the keys of a map.
pub fn key_paths(schema: &Value) -> Vec<String> {
    let mut paths = Vec::new();
    walk(Shape::of(schema), "", &mut paths);
    paths.sort();
    paths.dedup();
    paths
}

/// No configuration is nested deeper; a type that holds itself must end.
const DEEPEST: usize = 12;

fn walk(shape: Shape<'_>, path: &str, paths: &mut Vec<String>) {
    if path.matches('.').count() > DEEPEST {
        return;
    }
    let key_of = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    let mut keys = |keys: Vec<(&str, Shape<'_>)>| {
        for (key, inner) in keys {
            paths.push(key_of(key));
            walk(inner, &key_of(key), paths);
        }
    };
    match shape.form() {
        Form::Table(table) => {
            keys(table.keys());
            if let Others::Each(inner) = table.others() {
                walk(inner, &key_of("*"), paths);
            }
        }
        Form::Tagged { variants, .. } => {
            for (_, table) in variants {
                keys(table.keys());
            }
        }
        Form::OneKey(choices) => keys(choices),
        Form::List { items: Some(items), .. } => walk(items, &format!("{path}[]"), paths),
        Form::OneOf(choices) => {
            for choice in choices {
                walk(choice, path, paths);
            }
        }
        _ => {}
    }
}
