//! What the real sops and the real age write is opened, and what is sealed here is opened by the real age.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chassis::SecretValue;
use sandbox::{Encryption, Options, Sandbox, Supervisor};
use secret_syncer::escrow::{is_recipient, seal};
use secret_syncer::sops::{SopsError, open};
use tokio::process::Command;

const PLANTED: &str = "PLANTEDsopsA7f3Kq9vX2";

/// The process that supervises the tests' servers: this very program.
#[test]
#[ignore = "started by the sandbox, not by the test runner"]
fn supervises() {
    assert_eq!(sandbox::supervise(), std::process::ExitCode::SUCCESS);
}

struct Place {
    sandbox: Sandbox,
    tools: Encryption,
}

impl Place {
    async fn new() -> Place {
        let supervisor = Supervisor::of_this_test("supervises");
        let sandbox = Sandbox::start(Options::new(supervisor)).await.unwrap();
        let tools = sandbox.encryption().await.unwrap();
        Place { sandbox, tools }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let file = self.sandbox.dir().join(name);
        std::fs::write(&file, text).unwrap();
        file
    }

    /// A new identity: its file's text, and its public key.
    async fn identity(&self) -> (String, String) {
        let text = said(&self.tools.age_keygen(), &[]).await;
        let file = self.file("identity", &text);
        let public = said(&self.tools.age_keygen(), &["-y", file.to_str().unwrap()]).await;
        (text, public.trim().to_owned())
    }

    /// A file as sops encrypts it.
    async fn encrypted(&self, name: &str, text: &str, options: &[&str]) -> String {
        let file = self.file(name, text);
        said(&self.tools.sops(), &[&["encrypt"], options, &[file.to_str().unwrap()]].concat()).await
    }
}

/// What a tool writes when it succeeds.
async fn said(program: &Path, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().await.unwrap();
    assert!(
        output.status.success(),
        "{} {args:?}: {}",
        program.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn texts(values: &BTreeMap<String, SecretValue>) -> Vec<(&str, &str)> {
    values.iter().map(|(key, value)| (key.as_str(), value.expose_text().unwrap())).collect()
}

#[tokio::test]
async fn what_sops_writes_is_opened_in_every_form() {
    let place = Place::new().await;
    let (identity, public) = place.identity().await;
    let (_, other) = place.identity().await;
    let identity = SecretValue::new(identity);
    let both = format!("{other},{public}");
    let flat = format!(
        "# {PLANTED}\npassword: {PLANTED}\nport: 5432\nbig: 9007199254740993\non: true\nlong: |\n  a: b\n  ä \" \\\n"
    );
    let json = format!(
        r#"{{"password": "{PLANTED}", "port": 5432, "big": 9007199254740993, "on": true, "long": "a: b\nä \" \\\n"}}"#
    );
    let wanted = [
        ("big", "9007199254740993"),
        ("long", "a: b\nä \" \\\n"),
        ("on", "true"),
        ("password", PLANTED),
        ("port", "5432"),
    ];
    for (name, text) in [("flat.yaml", &flat), ("flat.json", &json)] {
        for options in [["--age", &public], ["--age", &both]] {
            let file = place.encrypted(name, text, &options).await;
            assert!(!file.contains(PLANTED));
            assert_eq!(texts(&open(&file, &identity).unwrap()), wanted, "{name}");
        }
    }
    let data = STANDARD.encode(PLANTED);
    let manifest = format!(
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: db\n  creationTimestamp: null\n  labels: {{a: yes, b: 0x1F, c: 1e3, d: 0o17, e: 1.50, f: ~, g: 010, h: '2020-01-01', i: -3, j: 1_000, k: No, l: 1e30, m: 2020-01-01, n: 5.0}}\ndata: {{password: {data}}}\nstringData:\n  user: orders\n"
    );
    for options in [&["--age", &public][..], &["--age", &public, "--encrypted-regex", "^(data|stringData)$"]]
    {
        let file = place.encrypted("manifest.yaml", &manifest, options).await;
        assert_eq!(
            texts(&open(&file, &identity).unwrap()),
            [("password", PLANTED), ("user", "orders")],
            "{options:?}"
        );
    }
    place.sandbox.stop().await.unwrap();
}

#[tokio::test]
async fn what_sops_itself_lets_stand_in_the_clear_is_refused() {
    let place = Place::new().await;
    let (identity, public) = place.identity().await;
    let identity = SecretValue::new(identity);
    let flat = format!("user_unencrypted: {PLANTED}\npassword: {PLANTED}\n");
    let by_suffix = place.encrypted("flat.yaml", &flat, &["--age", &public]).await;
    let by_regex =
        place.encrypted("flat.yaml", &flat, &["--age", &public, "--encrypted-regex", "^user"]).await;
    for (file, key) in [(by_suffix, "user_unencrypted"), (by_regex, "password")] {
        let error = open(&file, &identity).unwrap_err();
        assert_eq!(error, SopsError::Plain { key: key.to_owned() });
        assert!(!error.to_string().contains(PLANTED));
    }
    let nested = place.encrypted("deep.yaml", &format!("a: {{b: {PLANTED}}}\n"), &["--age", &public]).await;
    assert!(matches!(open(&nested, &identity), Err(SopsError::Unfit { key, .. }) if key == "a"));
    let fraction = place.encrypted("f.yaml", "ratio: 1.50\n", &["--age", &public]).await;
    assert!(matches!(open(&fraction, &identity), Err(SopsError::Unfit { key, .. }) if key == "ratio"));
    let (stranger, _) = place.identity().await;
    assert!(
        matches!(open(&fraction, &SecretValue::new(stranger)), Err(SopsError::WrongKey { recipients }) if recipients == [public])
    );
    place.sandbox.stop().await.unwrap();
}

#[tokio::test]
async fn what_is_sealed_here_is_opened_by_age() {
    let place = Place::new().await;
    let (identity, public) = place.identity().await;
    assert!(is_recipient(&public));
    let values = [
        ("password".to_owned(), SecretValue::new(PLANTED)),
        ("keystore".to_owned(), SecretValue::new([0, 159, 146, 150])),
    ];
    let secret = "secret/dev/orders-db".parse().unwrap();
    let sealed = seal(&public, &secret, "shop-dev", SystemTime::now(), &values.into()).unwrap();
    assert!(!sealed.contains(PLANTED) && !sealed.contains("orders-db"));
    let (key, file) = (place.file("key", &identity), place.file("sealed.age", &sealed));
    let opened = said(&place.tools.age(), &["-d", "-i", key.to_str().unwrap(), file.to_str().unwrap()]).await;
    let opened: serde_json::Value = serde_json::from_str(&opened).unwrap();
    assert_eq!(opened["secret"], "secret/dev/orders-db");
    assert_eq!(opened["environment"], "shop-dev");
    let bytes = |key: &str| STANDARD.decode(opened["keys"][key].as_str().unwrap()).unwrap();
    assert_eq!((bytes("password"), bytes("keystore")), (PLANTED.into(), vec![0, 159, 146, 150]));
    place.sandbox.stop().await.unwrap();
}
