//! What a server is asked before what was adopted is converged: who crosses a database, and who holds what in it. Each question has
//! one answer, in JSON.

/// Who uses a database, and its roles. $1 the database, $2 the login role, $3 the owner, $4 every role of it.
pub(super) const CROSSING: &str = "
SELECT json_build_object(
  'sessions', coalesce((
    SELECT json_object_agg(usename, n) FROM (
      SELECT usename, count(*) AS n FROM pg_stat_activity
      WHERE datname = $1 AND usename IS NOT NULL AND pid <> pg_backend_pid() GROUP BY usename) s), '{}'),
  'everywhere', coalesce((
    SELECT json_object_agg(usename, n) FROM (
      SELECT usename, count(*) AS n FROM pg_stat_activity WHERE usename = ANY($4) GROUP BY usename) s), '{}'),
  'supers', coalesce((SELECT json_agg(rolname) FROM pg_roles WHERE rolsuper), '[]'),
  'strangers', coalesce((
    SELECT json_agg(r.rolname) FROM pg_roles r, pg_database d
    WHERE d.datname = $1 AND r.rolcanlogin AND NOT r.rolsuper AND r.rolname NOT IN ($2, $3, current_user)
      AND EXISTS (SELECT FROM aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
                  WHERE a.grantee = 0 AND a.privilege_type = 'CONNECT')
      AND NOT pg_has_role(r.oid, d.datdba, 'USAGE')
      AND NOT EXISTS (SELECT FROM aclexplode(d.datacl) a
                      WHERE a.privilege_type = 'CONNECT' AND a.grantee <> 0 AND pg_has_role(r.oid, a.grantee, 'USAGE'))), '[]'),
  -- Who is let in by name has no more than that: temporary tables it makes only because everybody may.
  'temporary', coalesce((
    SELECT json_agg(r.rolname) FROM pg_roles r, pg_database d
    WHERE d.datname = $1 AND r.rolcanlogin AND NOT r.rolsuper AND r.rolname <> ALL ($4) AND r.rolname <> current_user
      AND EXISTS (SELECT FROM aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
                  WHERE a.grantee = 0 AND a.privilege_type = 'TEMPORARY')
      AND NOT pg_has_role(r.oid, d.datdba, 'USAGE')
      AND EXISTS (SELECT FROM aclexplode(d.datacl) a
                  WHERE a.privilege_type = 'CONNECT' AND a.grantee <> 0 AND pg_has_role(r.oid, a.grantee, 'USAGE'))
      AND NOT EXISTS (SELECT FROM aclexplode(d.datacl) a
                      WHERE a.privilege_type = 'TEMPORARY' AND a.grantee <> 0 AND pg_has_role(r.oid, a.grantee, 'USAGE'))), '[]'),
  'walsenders', coalesce((
    SELECT json_object_agg(usename, n) FROM (
      SELECT usename, count(*) AS n FROM pg_stat_replication WHERE usename = ANY($4) GROUP BY usename) s), '{}'),
  'members', coalesce((
    SELECT json_agg(DISTINCT m.rolname) FROM pg_auth_members a JOIN pg_roles g ON g.oid = a.roleid
    JOIN pg_roles m ON m.oid = a.member WHERE g.rolname = $2 AND NOT m.rolsuper AND m.rolname <> current_user), '[]')
)::text";

/// The roles that there are: whether somebody is connected as them to these databases now, or could be. $1 the databases.
pub(super) const CLIENTS: &str = "
SELECT r.rolname::text AS role,
       EXISTS (SELECT FROM pg_stat_activity a WHERE a.usesysid = r.oid AND a.datname = ANY ($1) AND a.pid <> pg_backend_pid()) AS connected,
       r.rolcanlogin AND NOT r.rolsuper AND EXISTS (
         SELECT FROM pg_database d WHERE d.datname = ANY ($1) AND has_database_privilege(r.oid, d.oid, 'CONNECT')) AS may
FROM pg_roles r ORDER BY connected DESC, role";

/// What is not the owner's, and can be given or granted by who asks. $1 the owner, $2 the login role, $3 every role that logs in to
/// make or use it. What an extension made stays
/// the extension's, and so does a superuser's schema that holds such things: who owns a schema may drop what is in it. A superuser's
/// routine stays: an event trigger or a job may run it with a superuser's rights, and who owns it can rewrite it. A superuser's table
/// that the login role may neither change nor delete from stays: it is a log, or somebody else's. A view is looked through with its
/// owner's rights, so what it looks at comes before it.
pub(super) const HELD: &str = r"
WITH RECURSIVE asker AS (SELECT rolsuper AS super FROM pg_roles WHERE rolname = current_user),
givers AS (
  SELECT oid FROM pg_roles
  WHERE rolname <> $1 AND ((rolsuper AND (SELECT super FROM asker)) OR rolname = current_user OR rolname = ANY($3)
    OR oid = (SELECT datdba FROM pg_database WHERE datname = current_database()))),
supers AS (SELECT oid FROM pg_roles WHERE rolsuper),
spaces AS (SELECT * FROM pg_namespace WHERE nspname NOT LIKE 'pg\_%' AND nspname <> 'information_schema'),
extended AS (SELECT classid, objid FROM pg_depend WHERE deptype = 'e'),
linked AS (SELECT objid, refobjid FROM pg_depend WHERE classid = 'pg_class'::regclass AND refclassid = 'pg_class'::regclass
           AND deptype IN ('a', 'i') AND refobjsubid > 0),
relations AS (
  SELECT c.oid, c.relkind, c.relowner, c.relacl, format('%I.%I', n.nspname, c.relname) AS name,
         CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'f' THEN 'FOREIGN TABLE'
                        WHEN 'S' THEN 'SEQUENCE' WHEN 'c' THEN 'TYPE' ELSE 'TABLE' END AS kind,
         EXISTS (SELECT FROM extended e WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid) AS extended
  FROM pg_class c JOIN spaces n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'c')
    AND NOT (c.relkind = 'S' AND EXISTS (SELECT FROM linked l WHERE l.objid = c.oid))),
looks AS (
  SELECT DISTINCT r.ev_class AS viewer, d.refobjid AS seen FROM pg_rewrite r JOIN pg_depend d
    ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> r.ev_class),
depth(oid, n) AS (
  SELECT oid, 0 FROM relations UNION SELECT l.viewer, d.n + 1 FROM depth d JOIN looks l ON l.seen = d.oid),
things AS (
  SELECT 0 AS rank, 'SCHEMA' AS kind, format('%I', nspname) AS name, nspowner AS owner, '[]'::json AS sequences,
         nspname <> 'public' AND nspowner IN (SELECT oid FROM supers) AND (
           EXISTS (SELECT FROM extended e JOIN pg_class c ON e.classid = 'pg_class'::regclass AND c.oid = e.objid AND c.relnamespace = n.oid)
           OR EXISTS (SELECT FROM extended e JOIN pg_proc p ON e.classid = 'pg_proc'::regclass AND p.oid = e.objid AND p.pronamespace = n.oid)
           OR EXISTS (SELECT FROM extended e JOIN pg_type t ON e.classid = 'pg_type'::regclass AND t.oid = e.objid AND t.typnamespace = n.oid))
           AS stays
  FROM spaces n
  WHERE NOT EXISTS (SELECT FROM extended e WHERE e.classid = 'pg_namespace'::regclass AND e.objid = n.oid)
  UNION ALL
  SELECT CASE WHEN kind IN ('VIEW', 'MATERIALIZED VIEW') THEN 100 + (SELECT max(n) FROM depth d WHERE d.oid = r.oid) ELSE 1 END,
         kind, name, relowner, coalesce((
    SELECT json_agg(format('%I.%I', n.nspname, s.relname) ORDER BY s.oid) FROM linked l JOIN pg_class s ON s.oid = l.objid AND s.relkind = 'S'
    JOIN pg_namespace n ON n.oid = s.relnamespace WHERE l.refobjid = r.oid), '[]'),
         relkind IN ('r', 'p', 'f') AND relowner IN (SELECT oid FROM supers)
           AND NOT has_table_privilege($2, oid, 'UPDATE') AND NOT has_table_privilege($2, oid, 'DELETE')
  FROM relations r WHERE NOT extended
  UNION ALL
  SELECT 100000, 'ROUTINE', p.oid::regprocedure::text, proowner, '[]', proowner IN (SELECT oid FROM supers)
  FROM pg_proc p JOIN spaces n ON n.oid = p.pronamespace
  WHERE NOT EXISTS (SELECT FROM extended e WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid)
  UNION ALL
  SELECT 1, CASE t.typtype WHEN 'd' THEN 'DOMAIN' ELSE 'TYPE' END, format('%I.%I', n.nspname, t.typname), typowner, '[]', false
  FROM pg_type t JOIN spaces n ON n.oid = t.typnamespace
  WHERE t.typtype IN ('e', 'd', 'r')
    AND NOT EXISTS (SELECT FROM extended e WHERE e.classid = 'pg_type'::regclass AND e.objid = t.oid)
  UNION ALL
  SELECT 100001, 'LARGE OBJECT', oid::text, lomowner, '[]', false FROM pg_largeobject_metadata)
SELECT json_build_object(
  'beyond', coalesce((
    SELECT json_agg(rolname ORDER BY rolname) FROM pg_roles WHERE rolname = ANY($3) AND NOT pg_has_role(current_user, oid, 'USAGE')), '[]'),
  'things', coalesce((
    SELECT json_agg(json_build_object('kind', kind, 'name', name, 'owner', pg_get_userbyid(owner), 'sequences', sequences)
                    ORDER BY rank, name) FROM things WHERE owner IN (SELECT oid FROM givers) AND NOT stays), '[]'),
  'borrowed', coalesce((
    SELECT json_agg(json_build_object('kind', kind, 'name', name, 'privileges', privileges) ORDER BY name) FROM (
      SELECT CASE r.kind WHEN 'SEQUENCE' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind, r.name,
             string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type) AS privileges
      FROM relations r CROSS JOIN LATERAL aclexplode(r.relacl) a JOIN pg_roles app ON app.oid = a.grantee AND app.rolname = $2
      LEFT JOIN pg_roles o ON o.rolname = $1
      WHERE r.kind <> 'TYPE' AND r.relowner IS DISTINCT FROM o.oid AND pg_has_role(current_user, r.relowner, 'USAGE')
        AND (r.extended OR r.relowner NOT IN (SELECT oid FROM givers) OR r.name IN (SELECT name FROM things WHERE stays))
        AND NOT coalesce(CASE r.kind WHEN 'SEQUENCE' THEN has_sequence_privilege(o.oid, r.oid, a.privilege_type)
                                     ELSE has_table_privilege(o.oid, r.oid, a.privilege_type) END, false)
      GROUP BY 1, 2
      UNION ALL
      SELECT 'SCHEMA', format('%I', n.nspname), string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type)
      FROM spaces n CROSS JOIN LATERAL aclexplode(n.nspacl) a JOIN pg_roles app ON app.oid = a.grantee AND app.rolname = $2
      LEFT JOIN pg_roles o ON o.rolname = $1
      WHERE n.nspowner IS DISTINCT FROM o.oid AND pg_has_role(current_user, n.nspowner, 'USAGE')
        AND (n.nspowner NOT IN (SELECT oid FROM givers) OR format('%I', n.nspname) IN (SELECT name FROM things WHERE kind = 'SCHEMA' AND stays))
        AND NOT coalesce(has_schema_privilege(o.oid, n.oid, a.privilege_type), false)
        AND NOT (pg_get_userbyid(n.nspowner) = 'pg_database_owner')
      GROUP BY 1, 2
      UNION ALL
      SELECT 'ROUTINE', p.oid::regprocedure::text, 'EXECUTE'
      FROM pg_proc p JOIN spaces n ON n.oid = p.pronamespace CROSS JOIN LATERAL aclexplode(p.proacl) a
      JOIN pg_roles app ON app.oid = a.grantee AND app.rolname = $2 LEFT JOIN pg_roles o ON o.rolname = $1
      WHERE p.proowner IS DISTINCT FROM o.oid AND pg_has_role(current_user, p.proowner, 'USAGE') AND NOT coalesce(has_function_privilege(o.oid, p.oid, 'EXECUTE'), false)
        AND (p.proowner NOT IN (SELECT oid FROM givers) OR p.proowner IN (SELECT oid FROM supers)
             OR EXISTS (SELECT FROM extended e WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid))
      ) b), '[]'),
  'others', coalesce((
    SELECT json_agg(lower(kind) || ' ' || name || ' of `' || pg_get_userbyid(owner) || '`' ORDER BY rank, name) FROM things
    WHERE (stays OR owner NOT IN (SELECT oid FROM givers)) AND pg_get_userbyid(owner) NOT IN ($1, 'pg_database_owner')), '[]')
)::text";
