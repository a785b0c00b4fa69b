//! Needs: the edges from a module, migration or step to the components it depends on.

use std::fmt;
use std::time::Duration;

use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Component;

/// When a need counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum When {
    /// Ready before the process starts.
    #[default]
    Start,
    /// Called later: reported, never waited for. Cycles of runtime needs are legal.
    Runtime,
}

/// What an unmet start need does to a process that starts again after its module was ready once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnRestart {
    /// It waits, as at the first start.
    #[default]
    Wait,
    /// It starts, and the unmet need is reported.
    Report,
}

/// One need: a component, and how it counts.
///
/// In a document either just the component's name or a map:
/// `{component: module/keycloak, within: 15m, when: start, on_restart: report}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// What is needed.
    pub component: Component,
    /// When it counts.
    pub when: When,
    /// How long it is waited for; without end when absent.
    pub within: Option<Duration>,
    /// What happens at a restart.
    pub on_restart: OnRestart,
}

impl Need {
    /// A start need, waited for without end.
    pub fn start(component: Component) -> Self {
        Need { component, when: When::Start, within: None, on_restart: OnRestart::Wait }
    }
}

const FIELDS: &[&str] = &["component", "when", "within", "on_restart"];

// An untagged string-or-map would hide a typo in the map behind "did not match any variant".
impl<'de> Deserialize<'de> for Need {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NeedVisitor;

        impl<'de> Visitor<'de> for NeedVisitor {
            type Value = Need;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a component's name, or a map with the key `component`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Need, E> {
                text.parse().map(Need::start).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Need, A::Error> {
                let (mut component, mut when, mut within, mut on_restart) = (None, None, None, None);
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "component" => component = Some(map.next_value()?),
                        "when" => when = Some(map.next_value()?),
                        "within" => {
                            let text: String = map.next_value()?;
                            within = Some(humantime::parse_duration(&text).map_err(|e| {
                                de::Error::custom(format!(
                                    "within: `{text}` is not a duration such as 15m: {e}"
                                ))
                            })?);
                        }
                        "on_restart" => on_restart = Some(map.next_value()?),
                        other => return Err(de::Error::unknown_field(other, FIELDS)),
                    }
                }
                Ok(Need {
                    component: component.ok_or_else(|| de::Error::missing_field("component"))?,
                    when: when.unwrap_or_default(),
                    within,
                    on_restart: on_restart.unwrap_or_default(),
                })
            }
        }

        deserializer.deserialize_any(NeedVisitor)
    }
}

impl Serialize for Need {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        if *self == Need::start(self.component.clone()) {
            return self.component.serialize(serializer);
        }
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("component", &self.component)?;
        map.serialize_entry("when", &self.when)?;
        if let Some(within) = self.within {
            map.serialize_entry("within", &humantime::format_duration(within).to_string())?;
        }
        map.serialize_entry("on_restart", &self.on_restart)?;
        map.end()
    }
}

impl schemars::JsonSchema for Need {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Need".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let component = generator.subschema_for::<Component>();
        let when = generator.subschema_for::<When>();
        let on_restart = generator.subschema_for::<OnRestart>();
        schemars::json_schema!({
            "oneOf": [
                component,
                {
                    "type": "object",
                    "required": ["component"],
                    "additionalProperties": false,
                    "properties": {
                        "component": component,
                        "when": when,
                        "within": {"type": "string", "description": "a duration such as 15m or 1h 30m"},
                        "on_restart": on_restart,
                    },
                },
            ]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_need_is_a_name_or_a_map() {
        let plain: Need = serde_json::from_str(r#""database/registry""#).unwrap();
        assert_eq!(plain, Need::start("database/registry".parse().unwrap()));
        let full: Need = serde_json::from_str(
            r#"{"component": "module/keycloak", "within": "15m", "on_restart": "report"}"#,
        )
        .unwrap();
        assert_eq!(full.within, Some(Duration::from_mins(15)));
        assert_eq!(full.on_restart, OnRestart::Report);
    }

    #[test]
    fn a_typo_in_the_map_is_named() {
        let error = serde_json::from_str::<Need>(r#"{"component": "module/x", "wihtin": "1m"}"#).unwrap_err();
        assert!(error.to_string().contains("wihtin"), "{error}");
        let error =
            serde_json::from_str::<Need>(r#"{"component": "module/x", "within": "soon"}"#).unwrap_err();
        assert!(error.to_string().contains("soon"), "{error}");
    }
}
