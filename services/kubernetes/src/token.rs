//! Whose a service-account token is: by the signature of the cluster that issued it, and for one audience only.
//!
//! The issuer's keys are read from the API server, which shows them to every service account
//! (`system:service-account-issuer-discovery`), so whoever verifies needs no right over the whole cluster, as a `TokenReview`
//! would. What is not seen this way is that a token's pod or account was deleted; a token that is believed ends by itself within two hours.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use chassis::grpc::{Identity, PodReference, TokenError};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::{Cluster, Error};

/// For whom the tokens are that Rollcall's processes show a hub: `rollcall/<the hub's namespace>`, so that who has one hub can show
/// them to no other. By itself it is what is shown to a hub whose namespace its address does not tell.
const AUDIENCE: &str = "rollcall";
/// Keys are read again after this: one that the cluster has withdrawn is believed for no longer.
const FRESH: Duration = Duration::from_mins(10);
/// In seconds. A token that was made for longer is not one that the kubelet renews for a pod (every hour in our charts).
const LIFETIME: i64 = 7_200;
/// A token with a key that is not known has them read again, but no more often than this.
const AGAIN: Duration = Duration::from_secs(10);

/// Verifies tokens of one cluster that are made for the hub of one namespace.
#[derive(Debug)]
pub struct Tokens {
    cluster: Cluster,
    audiences: [String; 2],
    keys: Arc<Keys>,
}

/// What is known of the issuer.
#[derive(Debug, Default)]
struct Keys {
    known: Mutex<Option<(Instant, Arc<Issuer>)>>,
    /// When reading failed last, and why.
    failed: Mutex<Option<(Instant, String)>>,
    reading: tokio::sync::Mutex<()>,
}

/// Who issues tokens, and by which keys they are known.
#[derive(Debug, Clone)]
struct Issuer {
    name: String,
    keys: JwkSet,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
}

#[derive(Deserialize)]
struct Claims {
    iat: i64,
    exp: i64,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Bound,
}

#[derive(Deserialize)]
struct Bound {
    namespace: String,
    serviceaccount: Named,
    pod: Option<Named>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
    uid: String,
}

impl Tokens {
    /// For tokens of this cluster, made for a hub in the namespace that this process is in.
    pub fn new(cluster: Cluster) -> Self {
        Tokens {
            audiences: [format!("{AUDIENCE}/{}", cluster.default_namespace()), AUDIENCE.to_owned()],
            cluster,
            keys: Arc::default(),
        }
    }

    /// Whose a token is.
    pub async fn identity(&self, token: &str) -> Result<Identity, TokenError> {
        if let Some(seen) = self.seen(token) {
            return seen;
        }
        // In a task of its own: a caller that does not wait for the end does not make the next one begin anew.
        let (cluster, keys) = (self.cluster.clone(), Arc::clone(&self.keys));
        let (audiences, token) = (self.audiences.clone(), token.to_owned());
        let reading = tokio::spawn(async move { keys.identity(&cluster, &token, &audiences).await });
        reading.await.map_err(|error| TokenError::Keys(error.to_string()))?
    }

    fn seen(&self, token: &str) -> Option<Result<Identity, TokenError>> {
        self.keys.seen(token, &self.audiences)
    }
}

impl Keys {
    /// Whose a token is, by keys that are read now if they have to be.
    async fn identity(
        &self,
        cluster: &Cluster,
        token: &str,
        audiences: &[String],
    ) -> Result<Identity, TokenError> {
        // One reads for all; who shows a token with a known key is not kept waiting by who does not.
        let _reading = self.reading.lock().await;
        if let Some(seen) = self.seen(token, audiences) {
            return seen;
        }
        if let Some(why) = self.failed_lately() {
            return Err(TokenError::Keys(why));
        }
        let issuer = Issuer::read(cluster).await.map_err(|error| {
            let why = error.to_string();
            *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), why.clone()));
            TokenError::Keys(why)
        })?;
        let seen = issuer.identity(token, audiences);
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), Arc::new(issuer)));
        seen
    }

    /// Why the keys cannot be read, if that was tried a moment ago: whoever shows nonsense is no reason to ask again and again.
    fn failed_lately(&self) -> Option<String> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.as_ref().filter(|(at, _)| at.elapsed() < AGAIN).map(|(_, why)| why.clone())
    }

    /// Whose a token is by the keys that are known; none when they are to be read again first.
    fn seen(&self, token: &str, audiences: &[String]) -> Option<Result<Identity, TokenError>> {
        let (read, issuer) = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        let age = read.elapsed();
        let is_fresh = age < AGAIN || age < FRESH && issuer.has_key_of(token);
        is_fresh.then(|| issuer.identity(token, audiences))
    }
}

impl Issuer {
    async fn read(cluster: &Cluster) -> Result<Issuer, Error> {
        let name = "the token issuer's name";
        let discovery: Discovery = read(cluster, name, "/.well-known/openid-configuration").await?;
        let keys = read(cluster, "the token issuer's keys", "/openid/v1/jwks").await?;
        Ok(Issuer { name: discovery.issuer, keys })
    }

    fn has_key_of(&self, token: &str) -> bool {
        // Without a key's name another set of keys does not help either.
        let kid = decode_header(token).ok().and_then(|header| header.kid);
        kid.is_none_or(|kid| self.keys.find(&kid).is_some())
    }

    fn identity(&self, token: &str, audiences: &[String]) -> Result<Identity, TokenError> {
        let unreadable = |_| TokenError::Invalid("is none");
        let kid = decode_header(token).map_err(unreadable)?.kid;
        let key = kid.and_then(|kid| self.keys.find(&kid));
        let key = key.ok_or(TokenError::Invalid("was not issued by this cluster"))?;
        // Which algorithm is said by the key, never by the token.
        let algorithm = match &key.algorithm {
            AlgorithmParameters::RSA(_) => Algorithm::RS256,
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Algorithm::ES256,
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => Algorithm::ES384,
            _ => return Err(TokenError::Invalid("is signed in a way that is not known here")),
        };
        let mut validation = Validation::new(algorithm);
        validation.set_audience(audiences);
        validation.set_issuer(&[&self.name]);
        validation.set_required_spec_claims(&["exp", "nbf", "aud", "iss", "sub"]);
        validation.validate_nbf = true;
        let key = DecodingKey::from_jwk(key)
            .map_err(|_| TokenError::Invalid("is signed with a key that cannot be used"))?;
        let claims = decode::<Claims>(token, &key, &validation).map_err(|error| {
            TokenError::Invalid(match error.kind() {
                ErrorKind::ExpiredSignature => "has expired",
                ErrorKind::InvalidAudience => {
                    "is for somebody else: its audience must be `rollcall/` and this hub's namespace"
                }
                ErrorKind::InvalidIssuer | ErrorKind::InvalidSignature => "was not issued by this cluster",
                ErrorKind::ImmatureSignature => "is not good yet; do the clocks agree?",
                _ => "is no service account's",
            })
        })?;
        let Claims { iat, exp, kubernetes } = claims.claims;
        if exp.saturating_sub(iat) > LIFETIME {
            return Err(TokenError::Invalid(
                "was made for more than two hours; show one that the kubelet mounts",
            ));
        }
        let Bound { namespace, serviceaccount, pod } = kubernetes;
        let pod = pod.map(|pod| PodReference { namespace: namespace.clone(), name: pod.name, uid: pod.uid });
        // An end that no clock reaches is none that is believed.
        let end = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(exp.unsigned_abs()));
        let expires = end.unwrap_or(SystemTime::UNIX_EPOCH);
        Ok(Identity { namespace, account: serviceaccount.name, pod, expires })
    }
}

async fn read<T: DeserializeOwned>(cluster: &Cluster, what: &str, path: &str) -> Result<T, Error> {
    let request = http::Request::get(path).body(Vec::new());
    let unaskable =
        |error: http::Error| Error::Unaskable { what: what.to_owned(), reason: error.to_string() };
    cluster.plain(what, request.map_err(unaskable)?).await
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header, encode};
    use rcgen::{KeyPair, PublicKeyData};
    use serde_json::{Value, json};

    use super::*;

    const NAME: &str = "https://kubernetes.default.svc";

    fn issuer(keys: &[(&str, &KeyPair)]) -> Issuer {
        use base64::Engine;
        let text = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
        let key = |(kid, key): &(&str, &KeyPair)| {
            let point = key.der_bytes();
            json!({"kty": "EC", "crv": "P-256", "kid": kid, "x": text(&point[1..33]), "y": text(&point[33..])})
        };
        let keys: Vec<Value> = keys.iter().map(key).collect();
        Issuer { name: NAME.to_owned(), keys: serde_json::from_value(json!({"keys": keys})).unwrap() }
    }

    fn audiences() -> [String; 2] {
        ["rollcall/base".to_owned(), "rollcall".to_owned()]
    }

    fn token(kid: Option<&str>, key: &KeyPair, change: &Value) -> String {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let mut claims = json!({
            "iss": NAME, "aud": ["rollcall"], "sub": "system:serviceaccount:shop:web", "iat": now - 5, "exp": now + 600, "nbf": now - 5,
            "kubernetes.io": {"namespace": "shop", "serviceaccount": {"name": "web", "uid": "1"}, "pod": {"name": "web-0", "uid": "2"}},
        });
        for (name, value) in change.as_object().unwrap() {
            claims[name] = match value.as_i64() {
                Some(seconds) => json!(i64::try_from(now).unwrap() + seconds),
                None => value.clone(),
            };
        }
        let header = Header { kid: kid.map(str::to_owned), ..Header::new(Algorithm::ES256) };
        encode(&header, &claims, &EncodingKey::from_ec_der(&key.serialize_der())).unwrap()
    }

    #[test]
    fn a_token_is_believed_when_everything_in_it_is_right_and_never_else() {
        let (ours, old, theirs) =
            (KeyPair::generate().unwrap(), KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let issuer = issuer(&[("1", &ours), ("0", &old)]);
        let identity = issuer.identity(&token(Some("1"), &ours, &json!({})), &audiences()).unwrap();
        assert_eq!((identity.namespace.as_str(), identity.account.as_str()), ("shop", "web"));
        assert!(identity.expires > SystemTime::now());
        let pod = identity.pod.unwrap();
        assert_eq!((pod.namespace.as_str(), pod.name.as_str(), pod.uid.as_str()), ("shop", "web-0", "2"));
        assert!(issuer.identity(&token(Some("0"), &old, &json!({})), &audiences()).is_ok());
        let here = token(Some("1"), &ours, &json!({"aud": ["rollcall/base"]}));
        assert!(issuer.identity(&here, &audiences()).is_ok());
        for (kid, key, change, says) in [
            (Some("1"), &ours, json!({"aud": ["rollcall/elsewhere"]}), "is for somebody else"),
            (Some("1"), &theirs, json!({}), "was not issued by this cluster"),
            (Some("0"), &ours, json!({}), "was not issued by this cluster"),
            (Some("2"), &ours, json!({}), "was not issued by this cluster"),
            (None, &ours, json!({}), "was not issued by this cluster"),
            (Some("1"), &ours, json!({"iss": "https://elsewhere"}), "was not issued by this cluster"),
            (Some("1"), &ours, json!({"aud": ["vault"]}), "is for somebody else"),
            (Some("1"), &ours, json!({"aud": []}), "is for somebody else"),
            (Some("1"), &ours, json!({"aud": null}), "is no service account's"),
            (Some("1"), &ours, json!({"exp": -120}), "has expired"),
            (Some("1"), &ours, json!({"exp": 86_400}), "was made for more than two hours"),
            (Some("1"), &ours, json!({"iat": null}), "is no service account's"),
            (Some("1"), &ours, json!({"exp": "tomorrow"}), "is no service account's"),
            (Some("1"), &ours, json!({"nbf": 120}), "is not good yet"),
            (Some("1"), &ours, json!({"nbf": "yesterday"}), "is no service account's"),
            (Some("1"), &ours, json!({"kubernetes.io": {}}), "is no service account's"),
        ] {
            let error = issuer.identity(&token(kid, key, &change), &audiences()).unwrap_err();
            assert!(error.to_string().contains(says), "{kid:?} {change}: {error}");
        }
        // Signed with what everybody knows, or by nobody.
        let header = |algorithm: &str| {
            use base64::Engine;
            base64::engine::general_purpose::URL_SAFE_NO_PAD
                .encode(json!({"alg": algorithm, "kid": "1"}).to_string())
        };
        let right = token(Some("1"), &ours, &json!({}));
        let rest = right.split_once('.').unwrap().1;
        for wrong in [
            format!("{}.{rest}", header("HS256")),
            format!("{}.{rest}", header("none")),
            "nonsense".to_owned(),
        ] {
            assert!(issuer.identity(&wrong, &audiences()).is_err());
        }
    }
}
