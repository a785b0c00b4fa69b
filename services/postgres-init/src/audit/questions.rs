//! What a server is asked for an audit. Each question has one answer, in JSON, however many roles and databases there are.

/// The shared catalogs.
pub(crate) const SHARED: &str = "
SELECT json_build_object(
  'version', current_setting('server_version_num')::int,
  'wal_level', current_setting('wal_level'),
  'max_wal_senders', current_setting('max_wal_senders')::int,
  'max_replication_slots', current_setting('max_replication_slots')::int,
  'asker', current_user,
  'roles', (
    SELECT json_agg(json_build_object(
      'name', r.rolname, 'oid', r.oid::int8, 'login', r.rolcanlogin, 'superuser', r.rolsuper, 'createdb', r.rolcreatedb,
      'createrole', r.rolcreaterole, 'replication', r.rolreplication, 'bypassrls', r.rolbypassrls, 'inherit', r.rolinherit,
      'comment', shobj_description(r.oid, 'pg_authid'))) FROM pg_roles r),
  'memberships', coalesce((
    SELECT json_agg(json_build_object(
      'role', g.rolname, 'member', m.rolname, 'admin', a.admin_option,
      'inherit', coalesce((to_jsonb(a) ->> 'inherit_option')::bool, m.rolinherit),
      'set', coalesce((to_jsonb(a) ->> 'set_option')::bool, true)))
    FROM pg_auth_members a JOIN pg_roles g ON g.oid = a.roleid JOIN pg_roles m ON m.oid = a.member), '[]'),
  'databases', (
    SELECT json_agg(json_build_object(
      'name', d.datname, 'oid', d.oid::int8, 'owner', pg_get_userbyid(d.datdba), 'open', d.datallowconn,
      'template', d.datistemplate, 'comment', shobj_description(d.oid, 'pg_database'),
      'grants', coalesce((
        SELECT json_agg(CASE WHEN a.grantee = 0 THEN '' ELSE pg_get_userbyid(a.grantee)::text END || '=' || a.privilege_type)
        FROM aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a WHERE a.grantee <> d.datdba), '[]')))
    FROM pg_database d)
)::text";

/// What kind of password each role has; null where that may not be read. The verifiers themselves stay where they are.
pub(crate) const VERIFIERS: &str = "
SELECT json_object_agg(rolname, CASE WHEN rolpassword IS NULL THEN 'none' WHEN rolpassword LIKE 'SCRAM-SHA-256$%' THEN 'scram'
                                     WHEN rolpassword LIKE 'md5%' THEN 'md5' ELSE 'other' END)::text FROM pg_authid";

/// Whether $1 may be read: verifiers, and pg_hba.conf.
pub(crate) const MAY_READ: &str = "
SELECT has_table_privilege('pg_authid', 'SELECT'),
       has_table_privilege('pg_hba_file_rules', 'SELECT') AND has_function_privilege('pg_hba_file_rules()', 'EXECUTE')";

/// The lines of pg_hba.conf without error.
pub(crate) const RULES: &str = "
SELECT coalesce(json_agg(json_build_object(
  'line', line_number, 'type', type, 'database', database, 'user', user_name, 'address', address, 'netmask', netmask,
  'method', auth_method) ORDER BY line_number), '[]')::text FROM pg_hba_file_rules WHERE error IS NULL";

/// All ownership records, whatever the table's shape.
pub(crate) const RECORDS: &str = "
SELECT coalesce(json_agg(json_build_object(
  'kind', kind, 'name', name, 'environment_uid', environment_uid, 'environment_name', environment_name, 'fragment', fragment,
  'component', component, 'oid', oid::int8, 'system_identifier', to_jsonb(o) ->> 'system_identifier',
  'adopted', CASE WHEN to_jsonb(o) ->> 'adopted_at' IS NOT NULL THEN coalesce(to_jsonb(o) -> 'converged', '[]') END)), '[]')::text
FROM rollcall.owned o";

/// The inside of a database: who owns how much, and who was promised what they cannot use.
pub(crate) const INSIDE: &str = r"
WITH mine AS (
  SELECT c.oid, c.relname, c.relkind, c.relowner, c.relacl, c.relnamespace, n.nspname
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname NOT LIKE 'pg\_%' AND n.nspname <> 'information_schema' AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'))
SELECT json_build_object(
  'owners', coalesce((SELECT json_object_agg(pg_get_userbyid(relowner), n)
                      FROM (SELECT relowner, count(*) AS n FROM mine GROUP BY relowner) x), '{}'),
  'sequences', coalesce((
    SELECT json_agg(json_build_object('role', rolname, 'count', n, 'example', example, 'of', made_by)) FROM (
      SELECT r.rolname, pg_get_userbyid(t.relowner) AS made_by, count(DISTINCT s.oid) AS n,
             min(format('%I.%I', s.nspname, s.relname)) AS example
      FROM mine t CROSS JOIN LATERAL aclexplode(t.relacl) a JOIN pg_roles r ON r.oid = a.grantee
      JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = t.oid AND d.classid = 'pg_class'::regclass
                      AND d.deptype = 'a'
      JOIN mine s ON s.oid = d.objid AND s.relkind = 'S'
      WHERE t.relkind IN ('r', 'p') AND a.privilege_type = 'INSERT' AND a.grantee <> t.relowner
        AND NOT has_sequence_privilege(a.grantee, s.oid, 'USAGE')
      GROUP BY 1, 2) x), '[]'),
  'defaults', coalesce((
    SELECT json_agg(json_build_object('role', rolname, 'count', n, 'example', example, 'of', promised_by)) FROM (
      SELECT r.rolname, pg_get_userbyid(d.defaclrole) AS promised_by, count(DISTINCT t.oid) AS n,
             min(format('%I.%I', t.nspname, t.relname)) AS example
      FROM pg_default_acl d CROSS JOIN LATERAL aclexplode(d.defaclacl) a JOIN pg_roles r ON r.oid = a.grantee
      JOIN mine t ON t.relkind IN ('r', 'p') AND t.relowner NOT IN (d.defaclrole, a.grantee)
                 AND d.defaclnamespace IN (0, t.relnamespace)
      WHERE d.defaclobjtype = 'r' AND a.privilege_type = 'SELECT' AND a.grantee <> d.defaclrole
        AND NOT has_table_privilege(a.grantee, t.oid, 'SELECT')
      GROUP BY 1, 2) x), '[]')
)::text";
