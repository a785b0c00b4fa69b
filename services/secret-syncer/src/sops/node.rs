//! The tree of a file: maps and lists in the order in which they are written, because the checksum depends on it.

use std::fmt;

use chassis::SecretValue;
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::SopsError;

/// How many maps and lists may lie in one another.
const DEPTH: usize = 32;

/// A part of a file.
pub(super) enum Node {
    Map(Vec<(String, Node)>),
    List(Vec<Node>),
    Scalar(Scalar),
    /// Nothing, which sops neither encrypts nor counts.
    Null,
}

/// A value.
pub(super) enum Scalar {
    /// Text as it stands in the file. It may be a value in the clear, so it is kept like one.
    Text(SecretValue),
    /// What was decrypted.
    Opened {
        /// The plaintext, as sops writes it.
        value: SecretValue,
        /// What the value was before it was encrypted.
        kind: Kind,
    },
    /// A number or a truth value, as sops counts it.
    Other(String),
}

/// What a value was before it was encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Number,
    Truth,
    /// A date, or a comment that stands where a value should.
    Foreign,
}

impl Node {
    /// Reads a file. What sops writes as JSON begins with a brace, what it writes as YAML does not.
    pub(super) fn parse(file: &str) -> Result<Node, SopsError> {
        let node = if file.trim_start().starts_with('{') {
            let read = serde_json::from_str(file);
            read.map_err(|error| SopsError::Unreadable { line: u64::try_from(error.line()).ok() })?
        } else {
            let options = serde_saphyr::options! {
                duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::Error,
                strict_booleans: true,
                with_snippet: false,
            };
            // The reader's own words may quote the file.
            serde_saphyr::from_str_with_options(file, options).map_err(|error| SopsError::Unreadable {
                line: error.location().map(|location| location.line()),
            })?
        };
        match node {
            Node::Map(_) => Ok(node),
            _ => Err(SopsError::Unreadable { line: None }),
        }
    }

    /// What a map holds under a key.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        let Node::Map(entries) = self else { return None };
        entries.iter().find(|(name, _)| name == key).map(|(_, node)| node)
    }

    /// Text as it stands in the file, such as metadata. Not a decrypted value.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Node::Scalar(Scalar::Text(value)) => value.expose_text(),
            _ => None,
        }
    }

    /// All values in order, each with the keys that lead to it; positions in lists do not count, as with sops.
    pub(super) fn visit<'a, E>(
        &'a self,
        path: &mut Vec<&'a str>,
        each: &mut impl FnMut(&[&'a str], &'a Scalar) -> Result<(), E>,
    ) -> Result<(), E> {
        match self {
            Node::Map(entries) => {
                for (key, node) in entries {
                    path.push(key);
                    node.visit(path, each)?;
                    path.pop();
                }
            }
            Node::List(nodes) => nodes.iter().try_for_each(|node| node.visit(path, each))?,
            Node::Scalar(scalar) => each(path, scalar)?,
            Node::Null => {}
        }
        Ok(())
    }

    /// Like [`visit`](Self::visit), and may change them.
    pub(super) fn change<'a, E>(
        &'a mut self,
        path: &mut Vec<&'a str>,
        each: &mut impl FnMut(&[&'a str], &mut Scalar) -> Result<(), E>,
    ) -> Result<(), E> {
        match self {
            Node::Map(entries) => {
                for (key, node) in entries {
                    path.push(key);
                    node.change(path, each)?;
                    path.pop();
                }
            }
            Node::List(nodes) => nodes.iter_mut().try_for_each(|node| node.change(path, each))?,
            Node::Scalar(scalar) => each(path, scalar)?,
            Node::Null => {}
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader(0))
    }
}

/// Reads whatever comes, this deep inside of maps and lists.
struct Reader(usize);

impl Reader {
    fn inner<E: de::Error>(&self) -> Result<Reader, E> {
        if self.0 < DEPTH { Ok(Reader(self.0 + 1)) } else { Err(E::custom("too deep")) }
    }

    fn other(text: String) -> Node {
        Node::Scalar(Scalar::Other(text))
    }
}

impl<'de> de::DeserializeSeed<'de> for Reader {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        // As Go's sops, and the Python one before it, counts them.
        Ok(Reader::other(if value { "True" } else { "False" }.to_owned()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Reader::other(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Reader::other(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        // Both Rust's and Go's shortest form without exponent.
        Ok(Reader::other(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(Scalar::Text(SecretValue::new(value))))
    }

    fn visit_string<E>(self, value: String) -> Result<Node, E> {
        Ok(Node::Scalar(Scalar::Text(SecretValue::new(value))))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = access.next_element_seed(self.inner()?)? {
            nodes.push(node);
        }
        Ok(Node::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut entries: Vec<(String, Node)> = Vec::new();
        while let Some(key) = access.next_key::<String>()? {
            // serde_json would let a key stand twice.
            if entries.iter().any(|(other, _)| *other == key) {
                return Err(de::Error::custom("a key stands twice"));
            }
            entries.push((key, access.next_value_seed(self.inner()?)?));
        }
        Ok(Node::Map(entries))
    }
}
