//! Extensions in documents: a name, or a map with the version and the schema.

use std::fmt;

use schemars::JsonSchema;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An extension of a database.
///
/// In a document either just its name or a map: `{name: postgis, version: "3.5.0", schema: geo}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Extension {
    /// Its name, as the server knows it.
    pub name: String,
    /// Its version; the server's default when absent, and then whichever is there is left.
    pub version: Option<String>,
    /// The schema it is made in: `public`, or one declared under `schemas`; `public` when absent.
    pub schema: Option<String>,
}

impl Extension {
    /// An extension in the server's default version, in schema `public`.
    pub fn new(name: impl Into<String>) -> Self {
        Extension { name: name.into(), version: None, schema: None }
    }
}

const FIELDS: &[&str] = &["name", "version", "schema"];

// An untagged string-or-map would hide a typo in the map behind "did not match any variant".
impl<'de> Deserialize<'de> for Extension {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ExtensionVisitor;

        impl<'de> Visitor<'de> for ExtensionVisitor {
            type Value = Extension;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an extension's name, or a map with the key `name`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Extension, E> {
                Ok(Extension::new(text))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Extension, A::Error> {
                let (mut name, mut version, mut schema) = (None, None, None);
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "name" => name = Some(map.next_value()?),
                        "version" => version = Some(map.next_value()?),
                        "schema" => schema = Some(map.next_value()?),
                        other => return Err(de::Error::unknown_field(other, FIELDS)),
                    }
                }
                let name = name.ok_or_else(|| de::Error::missing_field("name"))?;
                Ok(Extension { name, version, schema })
            }
        }

        deserializer.deserialize_any(ExtensionVisitor)
    }
}

impl Serialize for Extension {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        if self.version.is_none() && self.schema.is_none() {
            return serializer.serialize_str(&self.name);
        }
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", &self.name)?;
        if let Some(version) = &self.version {
            map.serialize_entry("version", version)?;
        }
        if let Some(schema) = &self.schema {
            map.serialize_entry("schema", schema)?;
        }
        map.end()
    }
}

impl JsonSchema for Extension {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Extension".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let text = generator.subschema_for::<String>();
        schemars::json_schema!({
            "oneOf": [
                {"type": "string"},
                {
                    "type": "object",
                    "required": ["name"],
                    "additionalProperties": false,
                    "properties": {"name": text, "version": text, "schema": text},
                },
            ]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extension_is_a_name_or_a_map() {
        for text in [r#""pg_trgm""#, r#"{"name":"postgis","version":"3.5.0","schema":"geo"}"#] {
            let extension: Extension = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&extension).unwrap(), text);
        }
    }

    #[test]
    fn a_typo_in_the_map_is_named() {
        let error = serde_json::from_str::<Extension>(r#"{"name": "x", "verison": "1"}"#).unwrap_err();
        assert!(error.to_string().contains("verison"), "{error}");
    }
}
