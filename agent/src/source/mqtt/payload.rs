//! `payload`: one of the short words, or a table that says more.

use std::fmt;
use std::path::PathBuf;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::decode::nmea;
use crate::decode::payload::{Cbor, Config, Encoding, Json, Raw, Scalar};

/// How a payload is read.
// Not `untagged` for reading: that would lose what is wrong inside the table.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
#[serde(untagged)]
pub enum Payload {
    /// A word alone.
    Word(Word),
    /// A table with its own keys.
    Full(Box<Config>),
}

/// A way to read a payload of which nothing more has to be said.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Word {
    #[default]
    Json,
    Cbor,
    Nmea,
    Scalar,
    Text,
    Raw,
}

impl Default for Payload {
    fn default() -> Self {
        Self::Word(Word::default())
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Payload;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a word or a table")
            }

            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<Payload, E> {
                let word = serde::de::value::StrDeserializer::<E>::new(word);
                Word::deserialize(word).map(Payload::Word)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Payload, A::Error> {
                let config = Config::deserialize(MapAccessDeserializer::new(map));
                config.map(|full| Payload::Full(Box::new(full))).map_err(A::Error::custom)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl Payload {
    /// What it stands for; a word that gives one value calls it `field`.
    pub(super) fn config(&self, field: &str) -> Config {
        let field = || field.to_owned();
        let word = match self {
            Self::Full(full) => return full.as_ref().clone(),
            Self::Word(word) => word,
        };
        match word {
            Word::Json => Config::Json(Json {}),
            Word::Cbor => Config::Cbor(Cbor {}),
            Word::Nmea => Config::Nmea(nmea::Config::default()),
            Word::Scalar => Config::Scalar(Scalar { field: field() }),
            Word::Text => Config::Raw(Raw { field: field(), encoding: Encoding::Text }),
            Word::Raw => Config::Raw(Raw { field: field(), encoding: Encoding::Bytes }),
        }
    }

    /// The file that it names.
    pub(super) fn file(&self) -> Option<PathBuf> {
        match self {
            Self::Full(full) => full.file(),
            Self::Word(_) => None,
        }
    }

    /// What is wrong inside the table: the key's path, and what would be right.
    pub(super) fn check(&self) -> Vec<(String, String)> {
        match self {
            Self::Full(full) => full.check(),
            Self::Word(_) => Vec::new(),
        }
    }
}
