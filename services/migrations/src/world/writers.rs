//! Who may write a table that says what was run: its owner. A login that may use all tables of the owner, as default privileges have it,
//! could otherwise have a migration run twice, or never.

use crate::quote::literal;

/// What such a table's comment says, by which it is known to whoever gives rights with all tables.
pub const ONLY_ITS_OWNER: &str = "rollcall: only its owner writes this";

/// The statements that say so and take from everybody but its owner the right to write this table, given as SQL writes it (`schema.table`, quoted where
/// it must be). Reading stays; it does nothing where nobody else may write.
pub fn only_its_owner_writes(table: &str) -> String {
    let (name, table, says) = (table, literal(table), literal(ONLY_ITS_OWNER));
    format!(
        "COMMENT ON TABLE {name} IS {says};
         DO $only$
         DECLARE other text;
         BEGIN
           FOR other IN
             SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END
             FROM pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) a
             WHERE c.oid = {table}::pg_catalog.regclass AND a.grantee <> c.relowner AND a.privilege_type <> 'SELECT'
           LOOP
             EXECUTE pg_catalog.format('REVOKE INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER ON TABLE %s FROM %s', {table}, other);
           END LOOP;
         END $only$"
    )
}
