//! Which keys a module reads: as its document lists them, or as its pods refer to them.

use std::fmt;

use schemars::JsonSchema;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::ValueRef;

/// The keys of Secrets and ConfigMaps that a module reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModuleKeys {
    /// These.
    Listed(Vec<ValueRef>),
    /// Those that the pods of its workloads refer to, but for optional ones.
    Referenced,
}

impl Default for ModuleKeys {
    fn default() -> Self {
        ModuleKeys::Listed(Vec::new())
    }
}

const REFERENCED: &str = "referenced";

impl ModuleKeys {
    /// Those that the document itself lists.
    pub fn listed(&self) -> &[ValueRef] {
        match self {
            ModuleKeys::Listed(keys) => keys,
            ModuleKeys::Referenced => &[],
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == ModuleKeys::default()
    }
}

impl Serialize for ModuleKeys {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            ModuleKeys::Listed(keys) => keys.serialize(serializer),
            ModuleKeys::Referenced => serializer.serialize_str(REFERENCED),
        }
    }
}

// An untagged list-or-string would hide a typo in an entry behind "did not match any variant".
impl<'de> Deserialize<'de> for ModuleKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeysVisitor;

        impl<'de> Visitor<'de> for KeysVisitor {
            type Value = ModuleKeys;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of keys, or `referenced`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ModuleKeys, E> {
                if text == REFERENCED {
                    Ok(ModuleKeys::Referenced)
                } else {
                    Err(E::invalid_value(de::Unexpected::Str(text), &self))
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<ModuleKeys, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(ModuleKeys::Listed)
            }
        }

        deserializer.deserialize_any(KeysVisitor)
    }
}

impl JsonSchema for ModuleKeys {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ModuleKeys".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let list = generator.subschema_for::<Vec<ValueRef>>();
        schemars::json_schema!({ "oneOf": [list, {"const": REFERENCED}] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_a_list_or_one_word() {
        for (text, listed) in
            [(r#"[{"secret":"db","key":"password"}]"#, 1), (r#""referenced""#, 0), ("[]", 0)]
        {
            let keys: ModuleKeys = serde_json::from_str(text).unwrap();
            assert_eq!(keys.listed().len(), listed);
            assert_eq!(serde_json::to_string(&keys).unwrap(), text);
        }
        for (text, names) in [(r#""all""#, "`referenced`"), (r#"[{"secret":"db","kye":"x"}]"#, "kye")] {
            let error = serde_json::from_str::<ModuleKeys>(text).unwrap_err();
            assert!(error.to_string().contains(names), "{error}");
        }
    }
}
