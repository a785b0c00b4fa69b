//! What servers are asked. Each question has one answer, in JSON, whatever the number of databases.

/// $1 databases, $2 roles, $3 extensions.
pub(super) const SHARED: &str = "
SELECT json_build_object(
  'version', current_setting('server_version_num')::int,
  'superuser', (SELECT rolsuper FROM pg_roles WHERE rolname = current_user),
  'reads_verifiers', has_table_privilege('pg_authid', 'SELECT'),
  'recovering', pg_is_in_recovery(),
  'started', pg_postmaster_start_time()::text,
  'databases', coalesce((
    SELECT json_agg(json_build_object(
      'name', d.datname, 'oid', d.oid::int8, 'owner', pg_get_userbyid(d.datdba), 'open', d.datallowconn,
      'grants', coalesce((
        SELECT json_agg(CASE WHEN a.grantee = 0 THEN '' ELSE pg_get_userbyid(a.grantee)::text END || '=' || a.privilege_type)
        FROM aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a WHERE a.grantee <> d.datdba), '[]')))
    FROM pg_database d WHERE d.datname = ANY($1)), '[]'),
  'roles', coalesce((
    SELECT json_agg(json_build_object(
      'name', r.rolname, 'oid', r.oid::int8, 'login', r.rolcanlogin,
      'powers', array_remove(ARRAY[
        CASE WHEN r.rolsuper THEN 'SUPERUSER' END, CASE WHEN r.rolcreatedb THEN 'CREATEDB' END,
        CASE WHEN r.rolcreaterole THEN 'CREATEROLE' END, CASE WHEN r.rolreplication THEN 'REPLICATION' END,
        CASE WHEN r.rolbypassrls THEN 'BYPASSRLS' END], NULL),
      'member_of', coalesce((
        SELECT json_agg(DISTINCT g.rolname) FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
        WHERE m.member = r.oid AND (coalesce((to_jsonb(m) ->> 'inherit_option')::bool, true)
                                    OR coalesce((to_jsonb(m) ->> 'set_option')::bool, true))), '[]'),
      'acts_as', coalesce((
        SELECT json_agg(d.datname || substr(c.setting, 5)) FROM pg_db_role_setting s
        JOIN pg_database d ON d.oid = s.setdatabase, unnest(s.setconfig) c(setting)
        WHERE s.setrole = r.oid AND starts_with(c.setting, 'role=')), '[]')))
    FROM pg_roles r WHERE r.rolname = ANY($2)), '[]'),
  'available', coalesce((
    SELECT json_agg(e.name) FROM pg_available_extensions() e WHERE cardinality($3::text[]) > 0 AND e.name = ANY($3)), '[]')
)::text";

/// $1 databases, $2 roles.
pub(super) const RECORDS: &str = "
SELECT coalesce(json_agg(json_build_object(
  'kind', kind, 'name', name, 'environment_uid', environment_uid, 'environment_name', environment_name, 'fragment', fragment,
  'component', component, 'oid', oid::int8, 'spec_hash', spec_hash, 'finished', finished_at IS NOT NULL)), '[]')::text
FROM rollcall.owned
WHERE (kind = 'database' AND name = ANY($1)) OR (kind <> 'database' AND name = ANY($2))";

/// $1 extensions, $2 the owner, $3 the login role.
pub(super) const INSIDE: &str = "
SELECT json_build_object(
  'extensions', coalesce((SELECT json_agg(extname) FROM pg_extension WHERE extname = ANY($1)), '[]'),
  'public_open', coalesce((
    SELECT NOT has_schema_privilege(o.oid, n.oid, 'CREATE')
           OR EXISTS (SELECT FROM aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a
                      WHERE a.grantee = 0 AND a.privilege_type = 'CREATE')
    FROM pg_namespace n, pg_roles o WHERE n.nspname = 'public' AND o.rolname = $2), false),
  'privileges', coalesce((
    SELECT json_agg(p) FROM (
      SELECT d.defaclobjtype::text || ':' || a.privilege_type AS p
      FROM pg_default_acl d, aclexplode(d.defaclacl) a, pg_roles o, pg_roles r
      WHERE d.defaclnamespace = 0 AND d.defaclrole = o.oid AND o.rolname = $2 AND a.grantee = r.oid AND r.rolname = $3
      UNION
      SELECT 'public:USAGE' FROM pg_roles r
      WHERE r.rolname = $3 AND coalesce((SELECT has_schema_privilege(r.oid, n.oid, 'USAGE') FROM pg_namespace n
                                         WHERE n.nspname = 'public'), true)) all_of_them), '[]')
)::text";
