//! Certificates (X.509, RFC 5280): an authority that signs itself, and leaves that it signs.

use chassis::SecretValue;
use lifecycle::document::{Algorithm, AltName, COMMON_NAME_MAX, Ca, Certificate, Usage, is_common_name};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use time::OffsetDateTime;
use x509_parser::prelude::X509Certificate;
use zeroize::Zeroizing;

use super::{CaMaterial, GenerateError, key, trust};

/// Certificates are good from a little before they are made: clocks of machines differ.
const BACKDATED: i64 = 300;
const DAY: i64 = 86_400;

/// An authority's certificate and its private key.
pub(super) fn authority(spec: &Ca, now: i64) -> Result<Vec<SecretValue>, GenerateError> {
    let (private, pair) = pair(spec.algorithm)?;
    let mut params = params(Some(&spec.common_name), now, expires(now, spec.days)?)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let made = params.self_signed(&*pair).map_err(failed(spec.algorithm))?;
    Ok(vec![SecretValue::new(made.pem()), private])
}

/// A certificate, its private key, and what whoever trusts its authority is given, when asked for.
///
/// An authority that another one signed is sent along after the leaf, so that who trusts that other one can verify it.
pub(super) fn leaf(spec: &Certificate, ca: &CaMaterial, now: i64) -> Result<Vec<SecretValue>, GenerateError> {
    let signer = signer(ca)?;
    let authority = trust::parsed(&signer.certificate).map_err(|_| unreadable())?;
    usable(&authority, &signer.key, now)?;
    let issuer = Issuer::from_ca_cert_der(&signer.certificate.as_slice().into(), &*signer.key)
        .map_err(|_| unreadable())?;

    let first = spec.names.first().map(ToString::to_string).filter(|name| name.len() <= COMMON_NAME_MAX);
    let ends = expires(now, spec.days)?.min(authority.validity().not_after.timestamp());
    let mut params = params(spec.common_name.as_ref().or(first.as_ref()), now, ends)?;
    params.subject_alt_names = spec.names.iter().map(alternative).collect::<Result<_, _>>()?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = usages(spec.algorithm);
    params.extended_key_usages = match spec.usage {
        Usage::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
        Usage::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
        Usage::Both => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
    };
    params.use_authority_key_identifier_extension = true;
    let (private, pair) = pair(spec.algorithm)?;
    let made = params.signed_by(&*pair, &issuer).map_err(failed(spec.algorithm))?;
    verified(made.der(), &authority)?;

    let mut chain = made.pem();
    if authority.subject().as_raw() != authority.issuer().as_raw() {
        chain.push_str(&trust::pem(signer.certificate.clone()));
    }
    let mut values = vec![SecretValue::new(chain), private];
    if spec.bundle.is_some() {
        values.push(trust::bundle(std::slice::from_ref(&ca.certificate)).map_err(|_| unreadable())?);
    }
    Ok(values)
}

/// What signs: a certificate as DER and its key.
struct Signer {
    certificate: Vec<u8>,
    key: Zeroizing<KeyPair>,
}

fn signer(ca: &CaMaterial) -> Result<Signer, GenerateError> {
    let wrong = |part, problem| GenerateError::Ca { part, problem };
    let certificates = trust::certificates(&ca.certificate).map_err(|_| unreadable())?;
    let certificate = certificates.into_iter().next().ok_or_else(unreadable)?;
    let key = ca.private.expose_text().and_then(|text| KeyPair::from_pem(text).ok()).ok_or_else(|| {
        wrong(
            "private key",
            "cannot be used; give one of Ed25519, ECDSA on P-256 or P-384, or RSA from 2048 to 4096 bits, as PKCS#8 in PEM",
        )
    })?;
    Ok(Signer { certificate, key: Zeroizing::new(key) })
}

fn unreadable() -> GenerateError {
    GenerateError::Ca {
        part: "certificate",
        problem: "cannot be read; give PEM blocks of type CERTIFICATE, first the one that signs",
    }
}

/// Whether what it signs now would be believed.
fn usable(authority: &X509Certificate<'_>, key: &KeyPair, now: i64) -> Result<(), GenerateError> {
    use rcgen::PublicKeyData;
    let wrong = |problem| Err(GenerateError::Ca { part: "certificate", problem });
    let (validity, usage) = (authority.validity(), authority.key_usage());
    if authority.public_key().subject_public_key.data != key.der_bytes() {
        return wrong(
            "does not belong to its private key; give the two that were made together, and of several certificates first the one that signs",
        );
    }
    if !authority.is_ca() || usage.is_ok_and(|usage| usage.is_some_and(|usage| !usage.value.key_cert_sign()))
    {
        return wrong("is not an authority's; give one that may sign certificates");
    }
    if validity.not_after.timestamp() <= now {
        return wrong("has expired; make a new authority first");
    }
    if validity.not_before.timestamp() > now {
        return wrong("is not good yet; correct the clock of this machine, or wait");
    }
    Ok(())
}

/// Whatever an authority's certificate looks like, what is handed out names it exactly and carries its signature: names
/// that the library cannot repeat (two organizational units, say) are noticed here and not by the first client.
fn verified(leaf: &[u8], authority: &X509Certificate<'_>) -> Result<(), GenerateError> {
    let sound = trust::parsed(leaf).is_ok_and(|leaf| {
        leaf.issuer().as_raw() == authority.subject().as_raw()
            && leaf.verify_signature(Some(authority.public_key())).is_ok()
    });
    let problem = "has a name that cannot be repeated in what it signs; give one with a simple name";
    if sound { Ok(()) } else { Err(GenerateError::Ca { part: "certificate", problem }) }
}

/// A new key pair: as it is written, and as certificates are signed with it.
fn pair(algorithm: Algorithm) -> Result<(SecretValue, Zeroizing<KeyPair>), GenerateError> {
    let private = key::pair(algorithm)?.private;
    let text = private.expose_text().unwrap_or_default();
    let pair = KeyPair::from_pem(text).map_err(failed(algorithm))?;
    Ok((private, Zeroizing::new(pair)))
}

fn params(common_name: Option<&String>, now: i64, ends: i64) -> Result<CertificateParams, GenerateError> {
    let mut params = CertificateParams::default();
    params.not_before = date(now.saturating_sub(BACKDATED).max(0))?;
    params.not_after = date(ends)?;
    params.distinguished_name = DistinguishedName::new();
    if let Some(name) = common_name {
        if !is_common_name(name) {
            return Err(odd(name));
        }
        params.distinguished_name.push(DnType::CommonName, name);
    }
    Ok(params)
}

fn expires(now: i64, days: u16) -> Result<i64, GenerateError> {
    let ends = now.checked_add(i64::from(days) * DAY);
    ends.filter(|_| now >= 0).ok_or(GenerateError::Clock)
}

fn date(seconds: i64) -> Result<OffsetDateTime, GenerateError> {
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| GenerateError::Clock)
}

fn alternative(name: &AltName) -> Result<SanType, GenerateError> {
    let text = name.to_string();
    match name {
        AltName::Dns(_) if text.parse().as_ref() == Ok(name) => {
            Ok(SanType::DnsName(text.as_str().try_into().map_err(|_| odd(&text))?))
        }
        AltName::Dns(_) => Err(odd(&text)),
        AltName::Ip(address) => Ok(SanType::IpAddress(*address)),
    }
}

fn odd(name: &str) -> GenerateError {
    GenerateError::Name(name.escape_debug().to_string())
}

/// TLS 1.2 may encrypt to an RSA key; with the others it only signs.
fn usages(algorithm: Algorithm) -> Vec<KeyUsagePurpose> {
    match algorithm {
        Algorithm::Ed25519 | Algorithm::EcdsaP256 | Algorithm::EcdsaP384 => {
            vec![KeyUsagePurpose::DigitalSignature]
        }
        Algorithm::Rsa2048 | Algorithm::Rsa3072 | Algorithm::Rsa4096 => {
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment]
        }
    }
}

/// What the library says of a key or certificate that we made: names and reasons, no value.
fn failed(algorithm: Algorithm) -> impl Fn(rcgen::Error) -> GenerateError {
    move |error| GenerateError::Key { algorithm, problem: error.to_string() }
}
