//! Generators in documents: how the values of a Secret are made that nobody has to think up: passwords, symmetric keys,
//! key pairs, and certificates with an authority of their own.

use core::net::IpAddr;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{ObjectName, SecretRef};

/// How values are generated. A generator stands under the key it makes; some make further keys and name them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Generator {
    /// A password.
    Password(Password),
    /// A symmetric key, for HMAC or encryption.
    Hmac(Hmac),
    /// A private key, and its public key when asked for.
    PrivateKey(PrivateKey),
    /// A certificate authority: a certificate that it signs itself, and its private key.
    Ca(Ca),
    /// A certificate that such an authority signs, and its private key.
    Certificate(Certificate),
}

/// Letters and digits from a cryptographic random source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Password {
    /// How many characters; 32 when absent, at least 24.
    #[serde(default = "thirty_two")]
    pub length: u16,
}

/// Bytes from a cryptographic random source, written as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hmac {
    /// How many bytes, before they are written as text; 32 when absent, at least 16.
    #[serde(default = "thirty_two")]
    pub bytes: u16,
    /// How they are written.
    #[serde(default)]
    pub encoding: Encoding,
}

fn thirty_two() -> u16 {
    32
}

/// How bytes are written as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Base64 with padding (RFC 4648 section 4).
    #[default]
    Base64,
    /// Base64 for URLs, without padding (RFC 4648 section 5; what JSON Web Keys hold).
    Base64url,
    /// Hexadecimal, lower case.
    Hex,
}

/// A private key: PKCS#8 (RFC 5958) as PEM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrivateKey {
    /// Which sort of key.
    pub algorithm: Algorithm,
    /// The key of the Secret for the public key, a SubjectPublicKeyInfo (RFC 5280) as PEM; it is not written when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public: Option<String>,
}

/// Sorts of key pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum Algorithm {
    /// Ed25519 (RFC 8032).
    #[serde(rename = "ed25519")]
    Ed25519,
    /// ECDSA on NIST's curve P-256: what every TLS library knows.
    #[default]
    #[serde(rename = "ecdsa-p256")]
    EcdsaP256,
    /// ECDSA on NIST's curve P-384.
    #[serde(rename = "ecdsa-p384")]
    EcdsaP384,
    /// RSA, 2048 bits.
    #[serde(rename = "rsa-2048")]
    Rsa2048,
    /// RSA, 3072 bits.
    #[serde(rename = "rsa-3072")]
    Rsa3072,
    /// RSA, 4096 bits.
    #[serde(rename = "rsa-4096")]
    Rsa4096,
}

/// A certificate authority of one's own. It signs leaf certificates only, no further authorities.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ca {
    /// Its name, as certificates and those who look at them show it.
    pub common_name: String,
    /// For how many days it is good.
    #[serde(default = "ten_years")]
    pub days: u16,
    /// Which sort of key it signs with.
    #[serde(default)]
    pub algorithm: Algorithm,
    /// The key of the Secret for its private key.
    pub private: String,
    /// How many certificates of the authorities before it stay behind its own, under its key, when it is rotated: whoever
    /// trusts it believes what they signed until that is signed anew. 0 drops them.
    #[serde(default = "one")]
    pub keep: u8,
}

fn one() -> u8 {
    1
}

fn ten_years() -> u16 {
    3650
}

/// A leaf certificate that an authority signs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// Who signs it.
    pub ca: CaRef,
    /// The name of its subject; the first of `names` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub common_name: Option<String>,
    /// The DNS names and IP addresses it is good for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<AltName>,
    /// For how many days it is good; never longer than its authority.
    #[serde(default = "one_year")]
    pub days: u16,
    /// Which sort of key it has.
    #[serde(default)]
    pub algorithm: Algorithm,
    /// The key of the Secret for its private key.
    pub private: String,
    /// The key of the Secret for the authority's certificate; it is not written when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<String>,
    /// Which side of a connection it is for.
    #[serde(default)]
    pub usage: Usage,
}

fn one_year() -> u16 {
    365
}

/// An authority: the Secret that holds its certificate and its private key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CaRef {
    /// The Secret.
    pub secret: ObjectName,
    /// The key of its certificate.
    #[serde(default = "ca_crt")]
    pub certificate: String,
    /// The key of its private key.
    #[serde(default = "ca_key")]
    pub private: String,
}

fn ca_crt() -> String {
    "ca.crt".to_owned()
}

fn ca_key() -> String {
    "ca.key".to_owned()
}

impl CaRef {
    /// The value that is its certificate.
    pub fn certificate(&self) -> SecretRef {
        SecretRef { secret: self.secret.clone(), key: self.certificate.clone() }
    }

    /// The value that is its private key.
    pub fn private(&self) -> SecretRef {
        SecretRef { secret: self.secret.clone(), key: self.private.clone() }
    }
}

/// Which side of a connection a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Usage {
    /// Servers.
    #[default]
    Server,
    /// Clients.
    Client,
    /// Either.
    Both,
}

impl Generator {
    /// The keys it makes in its Secret, its own first: `key` is the one it stands under.
    pub fn writes<'a>(&'a self, key: &'a str) -> Vec<&'a str> {
        let others: [Option<&String>; 2] = match self {
            Generator::Password(_) | Generator::Hmac(_) => [None, None],
            Generator::PrivateKey(PrivateKey { public, .. }) => [public.as_ref(), None],
            Generator::Ca(Ca { private, .. }) => [Some(private), None],
            Generator::Certificate(Certificate { private, bundle, .. }) => [Some(private), bundle.as_ref()],
        };
        std::iter::once(key).chain(others.into_iter().flatten().map(String::as_str)).collect()
    }

    /// The authority that signs what it makes.
    pub fn ca(&self) -> Option<&CaRef> {
        match self {
            Generator::Certificate(certificate) => Some(&certificate.ca),
            Generator::Password(_) | Generator::Hmac(_) | Generator::PrivateKey(_) | Generator::Ca(_) => None,
        }
    }

    /// Under which key of its Secret the certificates lie that people trust; `key` is the one it stands under.
    pub fn trust<'a>(&'a self, key: &'a String) -> Option<&'a String> {
        match self {
            Generator::Ca(_) => Some(key),
            Generator::Certificate(certificate) => certificate.bundle.as_ref(),
            Generator::Password(_) | Generator::Hmac(_) | Generator::PrivateKey(_) => None,
        }
    }

    /// The Secret that must be there before it can make anything.
    pub fn needs(&self) -> Option<&ObjectName> {
        self.ca().map(|ca| &ca.secret)
    }
}

/// The longest common name of a certificate's subject, in characters (RFC 5280 appendix A.1, ub-common-name).
pub const COMMON_NAME_MAX: usize = 64;

/// Whether certificates may call their subject so: 1 to [`COMMON_NAME_MAX`] characters, none of them invisible.
pub fn is_common_name(text: &str) -> bool {
    !text.is_empty()
        && text.trim() == text
        && text.chars().count() <= COMMON_NAME_MAX
        && !text.chars().any(char::is_control)
}

/// A name that a certificate is good for: a DNS name, whose first label may be `*`, or an IP address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AltName {
    /// A DNS name in lower case, for example `kafka.shop.svc` or `*.kafka.shop.svc`.
    Dns(String),
    /// An IP address, version 4 or 6.
    Ip(IpAddr),
}

impl fmt::Display for AltName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AltName::Dns(name) => f.write_str(name),
            AltName::Ip(address) => address.fmt(f),
        }
    }
}

impl FromStr for AltName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse() {
            return Ok(AltName::Ip(address));
        }
        if is_dns_name(text) {
            return Ok(AltName::Dns(text.to_owned()));
        }
        Err(format!(
            "`{}` is neither a DNS name nor an IP address: write names in lower-case letters, digits, `-` and `.`; `*` may only be the first label before two others",
            text.escape_debug()
        ))
    }
}

/// Whether certificates may hold such a name (RFC 5280 section 4.2.1.6: the preferred name syntax of RFC 1034), and
/// whether those who verify would ever match it: a last label of digits alone is an address gone wrong, and a wildcard
/// before fewer than two labels is refused (RFC 6125 section 7.2).
fn is_dns_name(text: &str) -> bool {
    let plain = text.strip_prefix("*.");
    let labels: Vec<&str> = plain.unwrap_or(text).split('.').collect();
    text.len() <= 253
        && labels.iter().all(|label| crate::component::is_dns_label(label))
        && labels.last().is_some_and(|last| !last.bytes().all(|byte| byte.is_ascii_digit()))
        && (plain.is_none() || labels.len() >= 2)
}

impl Serialize for AltName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AltName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for AltName {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "AltName".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "A DNS name, whose first label may be `*`, or an IP address.",
            "minLength": 1,
            "maxLength": 253,
        })
    }
}
