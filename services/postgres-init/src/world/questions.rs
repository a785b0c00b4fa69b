//! What servers are asked. Each question has one answer, in JSON, whatever the number of databases.

/// The first version in which collations of databases have versions and settings can be granted.
const VERSIONED: u32 = 150_000;

/// What all databases share, as a server of this version is asked. $1 databases, $2 roles, $3 extensions, $4 settings, $5 whether
/// what a role with a power beyond LOGIN could reach is wanted.
pub(super) fn shared(version: u32) -> String {
    let (provided, may_set) = if version < VERSIONED {
        ("NULL", "false")
    } else {
        ("pg_database_collation_actual_version(d.oid)", "has_parameter_privilege(w.name, 'SET')")
    };
    SHARED.replace("{provided}", provided).replace("{may_set}", may_set)
}

const SHARED: &str = "
SELECT json_build_object(
  'version', current_setting('server_version_num')::int,
  'superuser', me.rolsuper,
  'powers', array_remove(ARRAY[
    CASE WHEN me.rolsuper THEN 'SUPERUSER' END, CASE WHEN me.rolcreatedb THEN 'CREATEDB' END,
    CASE WHEN me.rolcreaterole THEN 'CREATEROLE' END, CASE WHEN me.rolreplication THEN 'REPLICATION' END,
    CASE WHEN me.rolbypassrls THEN 'BYPASSRLS' END], NULL),
  'reads_verifiers', has_table_privilege('pg_authid', 'SELECT'),
  'recovering', pg_is_in_recovery(),
  'started', pg_postmaster_start_time()::text,
  'databases', coalesce((
    SELECT json_agg(json_build_object(
      'name', d.datname, 'oid', d.oid::int8, 'owner', pg_get_userbyid(d.datdba), 'open', d.datallowconn,
      'grants', coalesce((
        SELECT json_agg(CASE WHEN a.grantee = 0 THEN '' ELSE pg_get_userbyid(a.grantee)::text END || '=' || a.privilege_type)
        FROM aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a WHERE a.grantee <> d.datdba), '[]'),
      'limit', d.datconnlimit,
      'settings', coalesce((SELECT json_agg(c.setting) FROM pg_db_role_setting s, unnest(s.setconfig) c(setting)
                            WHERE s.setdatabase = d.oid AND s.setrole = 0), '[]'),
      'text', json_build_object(
        'encoding', pg_encoding_to_char(d.encoding), 'provider', coalesce(to_jsonb(d) ->> 'datlocprovider', 'c'),
        'collate', d.datcollate, 'ctype', d.datctype,
        'locale', coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale'),
        'version', to_jsonb(d) ->> 'datcollversion', 'provided', {provided})))
    FROM pg_database d WHERE d.datname = ANY($1)), '[]'),
  'roles', coalesce((
    SELECT json_agg(json_build_object(
      'name', r.rolname, 'oid', r.oid::int8, 'login', r.rolcanlogin, 'limit', r.rolconnlimit,
      'powers', array_remove(ARRAY[
        CASE WHEN r.rolsuper THEN 'SUPERUSER' END, CASE WHEN r.rolcreatedb THEN 'CREATEDB' END,
        CASE WHEN r.rolcreaterole THEN 'CREATEROLE' END, CASE WHEN r.rolreplication THEN 'REPLICATION' END,
        CASE WHEN r.rolbypassrls THEN 'BYPASSRLS' END], NULL),
      'governed', me.rolsuper OR CASE WHEN current_setting('server_version_num')::int < 160000 THEN me.rolcreaterole
                                      ELSE pg_has_role(me.oid, r.oid, 'USAGE WITH ADMIN OPTION') END,
      'member_of', coalesce((
        SELECT json_agg(DISTINCT g.rolname) FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
        WHERE m.member = r.oid AND (coalesce((to_jsonb(m) ->> 'inherit_option')::bool, true)
                                    OR coalesce((to_jsonb(m) ->> 'set_option')::bool, true))), '[]'),
      'admin_of', coalesce((
        SELECT json_agg(DISTINCT g.rolname) FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
        WHERE m.member = r.oid AND m.admin_option), '[]'),
      'acts_as', coalesce(b.acts_as, '[]'), 'settings', coalesce(b.settings, '[]')))
    FROM pg_roles r LEFT JOIN (
      -- Once for all roles: the catalog has no index by role.
      SELECT s.setrole,
        json_agg(d.datname || substr(c.setting, 5)) FILTER (WHERE starts_with(c.setting, 'role=') AND s.setdatabase <> 0) AS acts_as,
        json_agg(json_build_array(coalesce(d.datname, ''), c.setting)) FILTER (WHERE NOT starts_with(c.setting, 'role=')) AS settings
      FROM pg_db_role_setting s LEFT JOIN pg_database d ON d.oid = s.setdatabase, unnest(s.setconfig) c(setting)
      WHERE s.setrole <> 0 GROUP BY s.setrole) b ON b.setrole = r.oid
    WHERE r.rolname = ANY($2)), '[]'),
  'available', CASE WHEN cardinality($3::text[]) = 0 THEN '[]' ELSE coalesce((
    WITH RECURSIVE offered AS MATERIALIZED (
      SELECT name, version, superuser AND NOT trusted AS superuser, schema, coalesce(requires, '{}') AS requires
      FROM pg_available_extension_versions()
    ), wanted AS (
      SELECT * FROM offered WHERE name = ANY($3)
      UNION SELECT o.* FROM offered o JOIN wanted w ON o.name = ANY(w.requires)
    )
    SELECT json_agg(json_build_object(
      'name', w.name, 'version', w.version, 'default', coalesce(w.version = e.default_version, false),
      'superuser', w.superuser, 'schema', w.schema, 'requires', w.requires))
    FROM wanted w JOIN pg_available_extensions() e ON e.name = w.name), '[]') END,
  'settings', CASE WHEN cardinality($4::text[]) = 0 THEN '[]' ELSE coalesce((
    SELECT json_agg(json_build_object('name', w.name, 'context', s.context, 'may', me.rolsuper OR {may_set}))
    FROM unnest($4::text[]) w(name) LEFT JOIN pg_settings s ON lower(s.name) = w.name), '[]') END,
  'reach', CASE WHEN $5 THEN json_build_object(
    'databases', coalesce((
      SELECT json_agg(json_build_object('name', d.datname, 'oid', d.oid::int8, 'template', d.datistemplate,
        'open', d.datallowconn AND EXISTS (SELECT FROM aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
                                           WHERE a.grantee = 0 AND a.privilege_type = 'CONNECT'),
        'lets_in', coalesce((SELECT json_agg(r.rolname) FROM pg_roles r WHERE r.rolname = ANY($2) AND NOT r.rolsuper
          AND d.datallowconn AND has_database_privilege(r.oid, d.oid, 'CONNECT')), '[]')))
      FROM pg_database d
      WHERE (d.datallowconn OR d.datistemplate) AND d.datname NOT IN ('template0', 'template1', 'postgres', 'rollcall')), '[]'),
    'hba', NULL, 'slots_bounded', current_setting('max_slot_wal_keep_size') <> '-1') END
)::text FROM pg_roles me WHERE me.rolname = current_user";

/// The lines of `pg_hba.conf` about replication connections; asked only of who may read them.
pub(super) const HBA: &str = "
SELECT coalesce(json_agg(json_build_object(
  'line', line_number, 'kind', type, 'users', user_name, 'address', address, 'method', coalesce(auth_method, ''))
  ORDER BY line_number), '[]')::text
FROM pg_hba_file_rules WHERE error IS NULL AND 'replication' = ANY(database)";

/// Whether the administrator may read `pg_hba.conf`.
pub(super) const READS_HBA: &str = "SELECT has_table_privilege('pg_hba_file_rules', 'SELECT') \
     AND has_function_privilege('pg_hba_file_rules()', 'EXECUTE')";

/// $1 databases, $2 roles, $3 whether the records of all databases are wanted. The records of what a role is a member of come
/// with its own. And what is recorded of environment $5 for fragments $6 or components $7 under names that are not of databases $8 or
/// roles $9. Columns that came later are read so that a table without them is read too.
pub(super) const RECORDS: &str = "
SELECT coalesce(json_agg(json_build_object(
  'kind', kind, 'name', name, 'environment_uid', environment_uid, 'environment_name', environment_name, 'fragment', fragment,
  'component', component, 'oid', oid::int8, 'spec_hash', spec_hash, 'finished', finished_at IS NOT NULL,
  'system_identifier', to_jsonb(o) ->> 'system_identifier',
  'adopted', CASE WHEN to_jsonb(o) ->> 'adopted_at' IS NOT NULL THEN coalesce(to_jsonb(o) -> 'converged', '[]') END,
  'leaving', to_jsonb(o) ->> 'leaving_since' IS NOT NULL,
  'now', CASE kind
    WHEN 'database' THEN (
      SELECT json_build_object('name', d.datname, 'login', false, 'member_of', '[]'::json) FROM pg_database d WHERE d.oid = o.oid)
    ELSE (
      SELECT json_build_object('name', r.rolname, 'login', r.rolcanlogin, 'member_of', coalesce((
        SELECT json_agg(DISTINCT g.rolname) FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid WHERE m.member = r.oid), '[]'))
      FROM pg_roles r WHERE r.oid = o.oid) END)), '[]')::text
FROM rollcall.owned o
WHERE (kind = 'database' AND ($3 OR name = ANY($1))) OR (environment_uid = $5::uuid AND (fragment = ANY($6) OR component = ANY($7))
  AND name <> ALL (CASE kind WHEN 'database' THEN $8 ELSE $9 END)) OR (kind <> 'database' AND (name = ANY($2) OR name IN (
  SELECT g.rolname FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid JOIN pg_roles r ON r.oid = m.member
  WHERE r.rolname = ANY($2))))";

/// $4 roles: the verifier of each that is there, NULL where it has none.
pub(super) const VERIFIERS: &str =
    "SELECT json_object_agg(rolname, rolpassword)::text FROM pg_authid WHERE rolname = ANY($4)";

/// The things of a database's own roles, and who lacks which wanted right with them. $1 schemas, $2 roles whose things they are,
/// $3 the wanted rights, as JSON.
macro_rules! lacking {
    () => {
        "
WITH mine AS (SELECT oid FROM pg_roles WHERE rolname = ANY($2)),
spaces AS (
  SELECT n.oid, n.nspname FROM pg_namespace n
  WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
    AND (n.nspname = 'public' OR n.nspname = ANY($1) OR n.nspowner IN (SELECT oid FROM mine))),
things AS (
  SELECT 'n' AS kind, 'SCHEMA' AS word, s.oid, format('%I', s.nspname) AS name FROM spaces s
  UNION ALL
  SELECT CASE c.relkind WHEN 'S' THEN 'S' ELSE 'r' END, CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, c.oid,
         format('%I.%I', s.nspname, c.relname)
  FROM pg_class c JOIN spaces s ON s.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relowner IN (SELECT oid FROM mine)
    -- What was run is for its owner alone to write down: migrations::world::ONLY_ITS_OWNER.
    AND obj_description(c.oid, 'pg_class') IS DISTINCT FROM 'rollcall: only its owner writes this'
  UNION ALL
  SELECT 'f', 'ROUTINE', p.oid, format('%I.%I(%s)', s.nspname, p.proname, pg_get_function_identity_arguments(p.oid))
  FROM pg_proc p JOIN spaces s ON s.oid = p.pronamespace WHERE p.proowner IN (SELECT oid FROM mine)),
lacking AS (
  SELECT w.grantee, w.privilege, t.kind, t.word, t.name
  FROM json_to_recordset($3::json) AS w(grantee text, kind text, privilege text)
  JOIN pg_roles g ON g.rolname = w.grantee JOIN things t ON t.kind = w.kind
  WHERE NOT CASE t.kind WHEN 'n' THEN has_schema_privilege(g.oid, t.oid, w.privilege)
                        WHEN 'S' THEN has_sequence_privilege(g.oid, t.oid, w.privilege)
                        WHEN 'f' THEN has_function_privilege(g.oid, t.oid, w.privilege)
                        ELSE has_table_privilege(g.oid, t.oid, w.privilege) END)"
    };
}

/// The inside of a database. As [`LACKING`], and $4 the owner, $5 who may have rights by default.
pub(super) const INSIDE: &str = concat!(
    lacking!(),
    "
SELECT json_build_object(
  'extensions', coalesce((
    SELECT json_object_agg(e.extname, json_build_object('version', e.extversion, 'schema', n.nspname))
    FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace), '{}'),
  'public_open', coalesce((
    SELECT NOT has_schema_privilege(o.oid, n.oid, 'CREATE')
           OR EXISTS (SELECT FROM aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a
                      WHERE a.grantee = 0 AND a.privilege_type = 'CREATE')
    FROM pg_namespace n, pg_roles o WHERE n.nspname = 'public' AND o.rolname = $4), false),
  'schemas', coalesce((
    SELECT json_object_agg(n.nspname, pg_get_userbyid(n.nspowner)) FROM pg_namespace n WHERE n.nspname = ANY($1)), '{}'),
  'defaults', coalesce((
    SELECT json_agg(DISTINCT pg_get_userbyid(d.defaclrole)::text || '>' || g.rolname || ':' || d.defaclobjtype::text || ':' || a.privilege_type)
    FROM pg_default_acl d, aclexplode(d.defaclacl) a JOIN pg_roles g ON g.oid = a.grantee
    WHERE d.defaclnamespace = 0 AND d.defaclrole IN (SELECT oid FROM mine) AND g.rolname = ANY($5)), '[]'),
  'lacking', coalesce((SELECT json_agg(DISTINCT l.grantee || ':' || l.kind || ':' || l.privilege) FROM lacking l), '[]'),
  'strange', coalesce((
    SELECT json_agg(x.line) FROM (
      SELECT format('%I.%I of role `%s`', s.nspname, c.relname, pg_get_userbyid(c.relowner)) AS line
      FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace
      WHERE (s.nspname = 'public' OR s.nspname = ANY($1)) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
        AND c.relowner NOT IN (SELECT oid FROM mine)
        AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
      ORDER BY 1 LIMIT 11) x), '[]')
)::text"
);

/// The statements that give the rights that are lacked.
pub(super) const LACKING: &str = concat!(
    lacking!(),
    "
SELECT format('GRANT %s ON %s %s TO %I', string_agg(privilege, ', ' ORDER BY privilege), word, name, grantee)
FROM lacking GROUP BY grantee, word, name ORDER BY grantee, word, name"
);

#[cfg(test)]
mod tests {
    #[test]
    fn what_only_its_owner_writes_is_known_by_its_comment() {
        let said = format!("IS DISTINCT FROM '{}'", migrations::world::ONLY_ITS_OWNER);
        assert!(super::INSIDE.contains(&said) && super::LACKING.contains(&said));
    }
}
