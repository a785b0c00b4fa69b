//! What modules asked for, kept in database `rollcall`: so that it is looked after when nobody asks any more.

use std::collections::{BTreeMap, BTreeSet};

use lifecycle::Component;
use lifecycle::document::Document;
use postgres::{ErrorKind, Session};

use super::{Error, PostgresTarget};
use crate::spec::ServerSpec;

/// The table. A fragment is one namespace's for as long as it stands here.
pub(super) const SETUP: &str = "
CREATE TABLE IF NOT EXISTS rollcall.delegated (
  environment_uid uuid NOT NULL,
  fragment text NOT NULL,
  namespace text NOT NULL,
  document text NOT NULL,
  by text NOT NULL,
  accepted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  first_accepted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (environment_uid, fragment)
);
";

const READ: &str = "
SELECT fragment, namespace, document, by, (extract(epoch FROM accepted_at) * 1000000)::int8, (extract(epoch FROM first_accepted_at) * 1000000)::int8
FROM rollcall.delegated WHERE environment_uid = $1::text::uuid ORDER BY first_accepted_at, fragment";

const WRITE: &str = "
INSERT INTO rollcall.delegated AS d (environment_uid, fragment, namespace, document, by) VALUES ($1::text::uuid, $2, $3, $4, $5)
ON CONFLICT (environment_uid, fragment) DO UPDATE SET document = excluded.document, by = excluded.by, accepted_at = clock_timestamp()
WHERE d.namespace = excluded.namespace";

const MADE: &str = "
SELECT EXISTS (SELECT FROM rollcall.owned WHERE environment_uid = $1::text::uuid AND fragment = $2)
    OR EXISTS (SELECT FROM rollcall.ledger WHERE environment_uid = $1::text::uuid AND fragment = $2)";

/// Whatever is recorded for a fragment, and for those of a namespace.
const RECORDED: &str = "
SELECT DISTINCT component FROM rollcall.owned WHERE environment_uid = $1::text::uuid AND kind <> 'observer' AND (fragment = $2
  OR fragment IN (SELECT d.fragment FROM rollcall.delegated d WHERE d.environment_uid = $1::text::uuid AND d.namespace = $3))";

/// The same as JSON, where the environment is $5.
pub(super) const AGREED: &str = "SELECT coalesce(json_object_agg(fragment, namespace), '{}')::text FROM rollcall.delegated WHERE environment_uid = $5::uuid";
const NAMESPACES: &str =
    "SELECT fragment, namespace FROM rollcall.delegated WHERE environment_uid = $1::text::uuid";

/// Takes back what was accepted of those fragments of an environment that have nothing left on this server: who looks after them would make
/// it again. `uid` is quoted.
pub(super) fn withdraw(uid: &str) -> String {
    format!(
        "DELETE FROM rollcall.delegated d WHERE environment_uid = {uid} AND NOT EXISTS (SELECT FROM rollcall.owned o \
         WHERE o.environment_uid = d.environment_uid AND o.fragment = d.fragment)"
    )
}

/// A fragment that was asked for and accepted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Kept {
    /// Its name.
    pub(crate) fragment: String,
    /// Whose it is.
    pub(crate) namespace: String,
    /// What it declares; none where this version does not understand it.
    pub(crate) document: Option<Document>,
    /// Who asked for it.
    pub(crate) by: String,
    /// When this version was accepted, in microseconds since 1970 by the server's clock.
    pub(crate) accepted: i64,
    /// When its first version was: whoever was there first stays where two clash.
    pub(crate) first: i64,
}

/// The fragments of an environment that were accepted, held still until this is dropped or written: nobody else accepts meanwhile.
pub(crate) struct Accepting<'a> {
    target: &'a PostgresTarget,
    spec: &'a ServerSpec,
    session: Session,
    /// Those that stand there.
    pub(crate) kept: Vec<Kept>,
}

impl PostgresTarget {
    /// The fragments that were accepted for an environment on this server; none where there is no database `rollcall` yet.
    pub(crate) async fn kept(&self, spec: &ServerSpec) -> Result<Vec<Kept>, Error> {
        let mut session = match self.session(spec).await {
            Err(Error::Postgres(error))
                if matches!(error.kind, ErrorKind::NoDatabase | ErrorKind::Closed) =>
            {
                return Ok(Vec::new());
            }
            other => other?,
        };
        let kept = if is_there(&mut session).await? { read(&mut session, spec).await? } else { Vec::new() };
        self.keep(session);
        Ok(kept)
    }

    /// Holds the accepted fragments of all environments on this server still. Database `rollcall` is made where it is missing.
    pub(crate) async fn accepting<'a>(&'a self, spec: &'a ServerSpec) -> Result<Accepting<'a>, Error> {
        let mut session = self.registry(spec).await?;
        session.execute("BEGIN").await?;
        session.execute("LOCK TABLE rollcall.delegated IN SHARE ROW EXCLUSIVE MODE").await?;
        let kept = read(&mut session, spec).await?;
        Ok(Accepting { target: self, spec, session, kept })
    }
}

impl Accepting<'_> {
    /// Whether this fragment stands here.
    pub(crate) fn stands(&self, fragment: &str) -> bool {
        self.kept.iter().any(|kept| kept.fragment == fragment)
    }

    /// Whether anything is recorded as made or run for a fragment of this environment.
    pub(crate) async fn was_made(&mut self, fragment: &str) -> Result<bool, Error> {
        let (connection, within) = self.session.parts();
        let asked = sqlx::query_scalar(MADE).bind(self.spec.environment.uid.to_string()).bind(fragment);
        Ok(within.judge(asked.fetch_one(connection)).await?)
    }

    /// The databases and roles that are recorded as made for a fragment, or for one of a namespace.
    pub(crate) async fn recorded(
        &mut self,
        fragment: &str,
        namespace: &str,
    ) -> Result<BTreeSet<Component>, Error> {
        let (connection, within) = self.session.parts();
        let uid = self.spec.environment.uid.to_string();
        let asked = sqlx::query_scalar::<_, String>(RECORDED).bind(uid).bind(fragment).bind(namespace);
        let found = within.judge(asked.fetch_all(connection)).await?;
        Ok(found.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Writes a fragment down as `text`, unless that is what stands there, and lets the others go on. Gives what stands there then.
    pub(crate) async fn write(
        mut self,
        document: &Document,
        text: &str,
        by: &str,
    ) -> Result<Vec<Kept>, Error> {
        let fragment = &document.fragment;
        let same = self.kept.iter().any(|kept| {
            kept.fragment == fragment.name
                && kept.namespace == fragment.namespace
                && kept.document.as_ref() == Some(document)
        });
        if !same {
            let (connection, within) = self.session.parts();
            let query = sqlx::query(WRITE)
                .bind(self.spec.environment.uid.to_string())
                .bind(&fragment.name)
                .bind(&fragment.namespace)
                .bind(text)
                .bind(by);
            let written = within.judge(query.execute(connection)).await?;
            if written.rows_affected() != 1 {
                return Err(Error::Refused(format!("fragment `{}` is another namespace's", fragment.name)));
            }
            self.kept = read(&mut self.session, self.spec).await?;
        }
        self.session.execute("COMMIT").await?;
        self.target.keep(self.session);
        Ok(self.kept)
    }
}

async fn is_there(session: &mut Session) -> Result<bool, Error> {
    let (connection, within) = session.parts();
    let asked = sqlx::query_scalar("SELECT to_regclass('rollcall.delegated') IS NOT NULL");
    Ok(within.judge(asked.fetch_one(connection)).await?)
}

/// The fragments of an environment that asked, each with its namespace, seen from inside database `rollcall`.
pub(crate) async fn namespaces(
    spec: &ServerSpec,
    session: &mut Session,
) -> Result<BTreeMap<String, String>, Error> {
    if !is_there(session).await? {
        return Ok(BTreeMap::new());
    }
    let (connection, within) = session.parts();
    let asked = sqlx::query_as(NAMESPACES).bind(spec.environment.uid.to_string());
    let found: Vec<(String, String)> = within.judge(asked.fetch_all(connection)).await?;
    Ok(found.into_iter().collect())
}

async fn read(session: &mut Session, spec: &ServerSpec) -> Result<Vec<Kept>, Error> {
    let (connection, within) = session.parts();
    let asked = sqlx::query_as::<_, (String, String, String, String, i64, i64)>(READ)
        .bind(spec.environment.uid.to_string());
    let rows = within.judge(asked.fetch_all(connection)).await?;
    let kept =
        |(fragment, namespace, text, by, accepted, first): (String, String, String, String, i64, i64)| Kept {
            document: serde_json::from_str(&text).ok().filter(|document: &Document| {
                document.fragment.name == fragment && document.fragment.namespace == namespace
            }),
            fragment,
            namespace,
            by,
            accepted,
            first,
        };
    Ok(rows.into_iter().map(kept).collect())
}
