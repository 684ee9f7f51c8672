//! `sunspec` in the configuration: which models of a device are read.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::super::config::Mistakes;
use super::definition;
use super::model::{self, Model};
use super::survey::{COMMON, IDENTITY};

/// `sunspec` of a group: which models of the device are read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Numbers of models, or what the fields of a model begin with: `103`, `"meter"`.
    /// Default: all that are known.
    #[serde(default)]
    pub models: Vec<Wish>,
    /// Names of the points that are read, as the models have them: `"W"`. Default: all.
    #[serde(default)]
    pub points: BTreeSet<String>,
    /// Files with models that are not known here, in the JSON of the `SunSpec` Alliance.
    #[serde(default)]
    pub definitions: Vec<PathBuf>,
    /// Holding register at which the device's map begins. Default: it is looked for at
    /// 40000, 50000 and 0.
    #[serde(default)]
    pub base: Option<u16>,
}

/// One of the `models`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Wish {
    Number(u16),
    Word(String),
}

impl<'de> Deserialize<'de> for Wish {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl serde::de::Visitor<'_> for Either {
            type Value = Wish;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a model's number from 1 to 65534 or a word as in \"inverter\"")
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Wish, E> {
                let number = u16::try_from(number).ok().filter(|number| *number != 0);
                let number = number.filter(|number| *number != u16::MAX);
                number.map(Wish::Number).ok_or_else(|| E::custom("is not within 1 to 65534"))
            }

            fn visit_str<E>(self, word: &str) -> Result<Wish, E> {
                Ok(Wish::Word(word.to_owned()))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl schemars::JsonSchema for Wish {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Wish".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "a model's number, or what its fields begin with",
            "anyOf": [
                { "type": "integer", "minimum": 1, "maximum": 65534 },
                { "type": "string" },
            ]
        })
    }
}

impl Config {
    pub(in super::super) fn check(&self, at: &str, wrong: &mut Mistakes) {
        let mut models = Vec::new();
        for (index, file) in self.definitions.iter().enumerate() {
            match definition::read(file) {
                Ok(model) => models.push(Arc::new(model)),
                Err(what) => wrong.add(format!("{at}.definitions[{index}]"), what),
            }
        }
        models.extend(model::known().iter().cloned());
        for (index, wish) in self.models.iter().enumerate() {
            let is_known = models.iter().any(|model| wish.is_for(model));
            if is_known {
                continue;
            }
            let words: BTreeSet<&str> = models.iter().map(|model| &*model.word).collect();
            let words: Vec<&str> = words.into_iter().collect();
            let what = match wish {
                Wish::Number(number) => format!("model {number} is not known here"),
                Wish::Word(word) => format!("`{word}` is no model"),
            };
            wrong.add(
                format!("{at}.models[{index}]"),
                format!(
                    "{what}: give its number, or one of {}; or its file as one of `definitions`",
                    words.join(", ")
                ),
            );
        }
        if !models.iter().any(|model| self.wants(model) && !model.ids.contains(&COMMON)) {
            let what = "`common` alone changes with nothing: it goes with the values of others";
            wrong.add(format!("{at}.models"), what);
        }
        for point in &self.points {
            if !models.iter().any(|model| self.wants(model) && is_read(model, point)) {
                let what = format!("`{point}` is no point of these models: names are as in W");
                wrong.add(format!("{at}.points"), what);
            }
        }
        if self.base.is_some_and(|base| base > u16::MAX - 4) {
            wrong.add(format!("{at}.base"), "leaves no room for a model before 65535");
        }
    }

    /// The user's own models, which go before those of the same number, and the others.
    pub(super) fn defined(&self) -> Vec<Arc<Model>> {
        // What cannot be read any more is passed over like what nobody knows.
        let own = self.definitions.iter().filter_map(|file| definition::read(file).ok());
        own.map(Arc::new).chain(model::known().iter().cloned()).collect()
    }

    pub(super) fn wants(&self, model: &Model) -> bool {
        self.models.is_empty() || self.models.iter().any(|wish| wish.is_for(model))
    }
}

/// Of the common model only its texts are.
fn is_read(model: &Model, point: &str) -> bool {
    if model.ids.contains(&COMMON) {
        return IDENTITY.iter().any(|(name, _)| *name == point);
    }
    model.has(point)
}

impl Wish {
    fn is_for(&self, model: &Model) -> bool {
        match self {
            Self::Number(number) => model.ids.contains(number),
            Self::Word(word) => *model.word == **word,
        }
    }
}
