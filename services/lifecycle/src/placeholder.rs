//! Placeholders: values of Secrets that stand for a secret and are none, because a template was not filled in, or a sample was
//! taken as it is. Whole values are judged: one that merely contains such a word is not a placeholder.

use crate::sha256_hex;

/// Ways to ask for a change, letters and digits alone. Such a value is refused whole, and where it begins with one of them as
/// words of their own.
const ASKS: [&str; 20] = [
    "change me",
    "changeme",
    "change it",
    "changeit",
    "change this",
    "replace",
    "replaceme",
    "replace me",
    "fixme",
    "todo",
    "tbd",
    "placeholder",
    "your password",
    "your secret",
    "your token",
    "your key",
    "enter your",
    "insert your",
    "redacted",
    "dummy",
];

/// What everybody tries first, where a secret is looked for. `superset` is what OpenG2P's charts give Superset's role.
const TRIED: [&str; 36] = [
    "1234",
    "12345",
    "123456",
    "12345678",
    "123456789",
    "1234567890",
    "abc123",
    "admin",
    "admin123",
    "default",
    "demo",
    "demo123",
    "example",
    "guest",
    "keycloak",
    "letmein",
    "minio",
    "minio123",
    "minioadmin",
    "mosip",
    "mosip123",
    "odoo",
    "openg2p",
    "passw0rd",
    "password",
    "password1",
    "password123",
    "postgres",
    "qwerty",
    "root",
    "sample",
    "secret",
    "superset",
    "test",
    "test123",
    "welcome",
];

/// SHA-256 of values that public templates ship and that look like secrets: keys `user`, `egov-enc-service`, `elasticsearch`,
/// `oauth2-proxy`, `grafana`, `egov-filestore`, `egov-location` and `egov-user-chatbot` of DIGIT's
/// `deploy-as-code/charts/environments/env-secrets.yaml`, and `securityPIN` of OpenG2P's softhsm (as it stands there, and
/// decoded). By their digests, so that nobody takes them from here.
const SHIPPED: [&str; 12] = [
    "2b383a158e138d967a6c7e82881de7529daeb20d31e88da4d947c13478d4adc9",
    "26cff6515ef20bef84bf1ae3de036f05de51a447d7fcaad8e56ac22fb3303236",
    "274357474ce98475873a3d28cf0135f6bb442c4107ce6bdb2b3786cf49f1d59c",
    "383a255807da5973b039a4487171570412faefd302e0edde223d5ef03eaf95c2",
    "42bdcc09b5cf06b5dfbde45ef579908a3e802dcea434940f1f076e495824dcb3",
    "7cc641d6b662f1e519089826014dda02ef9d4698a0a3b52ac74bbdec5e035945",
    "9409f3366897432805e1a06990dd54b014a59dd5e9f67b74c30950d4b00b7f36",
    "a1493194e6dc09a70a1cb7095aef2704db393dfd244d8756b2f8f1f38d509441",
    "ab69a658e6bd05fc5baf5dea00b8dc384725c24c539971a868cc1c50815cd1e5",
    "bc50c66f64eeadb81714b3e726b8c7ee6733ebd3c5dc03c66de93253a4a6b6b9",
    "ceff152f66b4dde618043272bac72c9bfb6dd4ae4a33b28d46d9669f75b5524a",
    "ff89d757e114f5a0982beb0cec01cbf713ea33d1af9ba94b32b8da06b3e83f35",
];

/// The longest value that is looked at: no placeholder is longer, and certificates and key stores need not be.
const LONGEST: usize = 256;

/// What the value under `key` of a Secret is instead of a secret, as it follows the key's name: `is empty`. None when it may
/// be one. What everybody tries first is refused only where the key's name says that it is a secret: a user may well be called
/// `admin`, a database `test`. Lower and upper case are one, and white space around a value is none of it.
pub fn placeholder(key: &str, value: &[u8]) -> Option<&'static str> {
    let value = value.trim_ascii();
    if value.is_empty() {
        return Some("is empty");
    }
    let value = std::str::from_utf8(value).ok()?;
    if value.starts_with("ENC[AES256_GCM,") {
        return Some("is still encrypted by sops");
    }
    if value.len() > LONGEST {
        return None;
    }
    let secret = is_secret(key);
    let words = words(value);
    if is_angled(value) {
        Some("is a placeholder in angle brackets")
    } else if is_template(value) {
        Some("is a template that nobody filled in")
    } else if is_repeated(value, secret) {
        Some("is one character over and over")
    } else if ASKS.iter().any(|ask| begins(&words, ask)) {
        Some("is a placeholder that asks to be changed")
    } else if secret && TRIED.contains(&value.to_lowercase().as_str()) {
        Some("is a value that everybody tries first")
    } else if secret && words == self::words(key) {
        Some("is the name of its own key")
    } else if SHIPPED.contains(&sha256_hex(&[value]).as_str()) {
        Some("is a sample that a public template ships")
    } else {
        None
    }
}

/// Whether a value is `<…>`, and no XML.
pub(crate) fn is_angled(value: &str) -> bool {
    value.len() > 2
        && value.starts_with('<')
        && value.ends_with('>')
        && !value[1..value.len() - 1].contains(['<', '>', '\n', '/'])
}

/// Whether a value is one `${…}` or `{{…}}` and nothing else.
fn is_template(value: &str) -> bool {
    let inside = |start: &str, end: &str| value.strip_prefix(start).and_then(|rest| rest.strip_suffix(end));
    inside("${", "}").or_else(|| inside("{{", "}}")).is_some_and(|inside| !inside.contains(['{', '}', '\n']))
}

/// `xxxx`, `****`, `....`; where a secret is looked for, `0000` as well.
fn is_repeated(value: &str, secret: bool) -> bool {
    let mut characters = value.chars();
    let first = characters.next().unwrap_or_default();
    value.len() >= 3 && characters.all(|c| c == first) && (secret || "xX*.?_-#".contains(first))
}

/// Whether a key's name says that its value is a secret.
fn is_secret(key: &str) -> bool {
    const WITHIN: [&str; 7] = ["pass", "pwd", "secret", "token", "apikey", "salt", "credential"];
    const AT_END: [&str; 2] = ["key", "pin"];
    let key: String = words(key).split(' ').collect();
    WITHIN.iter().any(|word| key.contains(word)) || AT_END.iter().any(|word| key.ends_with(word))
}

/// Letters and digits in lower case; whatever stands between them is one space.
fn words(text: &str) -> String {
    let lower = text.to_lowercase();
    let words = lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ")
}

/// Whether `words` begin with these, as words of their own.
fn begins(words: &str, with: &str) -> bool {
    words.strip_prefix(with).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_for_a_secret_is_told_by_the_rule_it_breaks() {
        for (values, says) in [
            (&["", " ", "\n", " \t\r\n"][..], "is empty"),
            (&["<db_password>", " <your-key>\n", "<slack_api_url>", "<...>"], "angle brackets"),
            (&["${DB_PASSWORD}", "{{ .Values.password }}", "{{password}}"], "nobody filled in"),
            (&["xxxx", "XXX", "********", "....", "????", "xxxxxxxxxxxxxxxxxxxxxxxx"], "over and over"),
            (
                &[
                    "changeme",
                    "CHANGE_ME",
                    "Change-Me!",
                    "change me",
                    "changeit",
                    "change_this",
                    "CHANGE-ME-NOW",
                    "replaceme",
                    "REPLACE_WITH_REAL_VALUE",
                    "replace",
                    "TODO",
                    "TODO: ask Mary",
                    "tbd",
                    "FIXME",
                    "placeholder",
                    "placeholder-value",
                    "your-password-here",
                    "<<CHANGEME>>",
                    "[REDACTED]",
                    "dummy",
                    "enter your token",
                ],
                "asks to be changed",
            ),
            (&["ENC[AES256_GCM,data:abc,iv:def,tag:ghi,type:str]"], "encrypted by sops"),
            (&["eGov@123", "q7.fr.cr", "546941", " 16032228\n"], "public template ships"),
        ] {
            for value in values {
                for key in ["password", "user", "value", ""] {
                    let found = placeholder(key, value.as_bytes());
                    assert!(
                        found.is_some_and(|found| found.contains(says)),
                        "{key}: {value:?} is {found:?}, not {says}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_everybody_tries_first_is_told_where_a_secret_is_looked_for() {
        let keys = [
            "password",
            "postgres-password",
            "PGPASSWORD",
            "db_passwd",
            "flyway-password",
            "client_secret",
            "secretKey",
            "token",
            "api-key",
            "apiKey",
            "accesskey",
            "master_salt",
            "securityPIN",
            "pin",
            "payu-merchant-key",
            "sms.pwd",
        ];
        for key in keys {
            for value in
                ["demo", "password", "Secret", "admin", "minioadmin", "123456", "superset", "0000", "test\n"]
            {
                assert!(placeholder(key, value.as_bytes()).is_some(), "{key}: {value}");
            }
            assert!(placeholder(key, key.to_uppercase().as_bytes()).is_some(), "{key} is its own value");
        }
        for key in [
            "username",
            "user",
            "database",
            "host",
            "mapping-rule",
            "realm",
            "keycloak-user",
            "ca.crt",
            "spinner",
            "tls.crt",
        ] {
            for value in ["demo", "admin", "postgres", "test", "keycloak", "0000", "1234", key] {
                assert_eq!(placeholder(key, value.as_bytes()), None, "{key}: {value}");
            }
        }
    }

    #[test]
    fn a_secret_that_merely_contains_such_a_word_passes() {
        for value in [
            "k3changemeQ9",
            "xchangeme",
            "changemeister-Z4",
            "todolist8Kq",
            "demoTx81LsPq",
            "passwordZ9!kLmQ",
            "aXXXXb",
            "xx",
            "7",
            "Tr0ub4dor&3",
            "correct horse battery staple",
            "exchange me not",
            "-----BEGIN PRIVATE KEY-----\nMC4CAQAw\n-----END PRIVATE KEY-----",
            "<a>b</a>",
            "<db>:<pw>",
            "a<b>",
            "postgresql://user:Zk3@db/test",
            "${HOST}:${PORT}",
            "{\"a\":{}}",
            "{{a}}{{b}}",
            "x<y>z",
            "replacement-4Kd",
            "your-passwordless-Kd93",
            "ENC[x]",
            "5469412",
        ] {
            assert_eq!(placeholder("password", value.as_bytes()), None, "{value}");
        }
        assert_eq!(placeholder("keystore.p12", &[0x30, 0x82, 0xff, 0x00]), None, "bytes that are no text");
        assert_eq!(placeholder("notes", "todo ".repeat(100).as_bytes()), None, "a text that begins so");
    }
}
