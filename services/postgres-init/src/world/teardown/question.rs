//! What a server is asked for a teardown: one question with one answer, in JSON.

/// $1 the environment's uid, $2 the declared databases, $3 the declared roles, $4 how provisioners of this environment call
/// themselves.
pub(super) const QUESTION: &str = "
WITH me AS (SELECT oid, rolsuper, rolcreaterole FROM pg_roles WHERE rolname = current_user),
owned AS (
  SELECT * FROM rollcall.owned o
  WHERE environment_uid = $1::text::uuid OR (kind = 'database' AND name = ANY($2)) OR (kind <> 'database' AND name = ANY($3))),
bases AS (
  SELECT d.* FROM pg_database d
  WHERE d.datname = ANY($2) OR d.datname IN (SELECT name FROM owned WHERE kind = 'database')),
people AS (
  SELECT r.* FROM pg_roles r WHERE r.rolname = ANY($3) OR r.rolname IN (SELECT name FROM owned WHERE kind <> 'database'))
SELECT json_build_object(
  'version', current_setting('server_version_num')::int,
  'admin', current_user,
  'records', coalesce((
    SELECT json_agg(json_build_object(
      'kind', kind, 'name', name, 'environment_uid', environment_uid, 'environment_name', environment_name, 'fragment', fragment,
      'component', component, 'oid', oid::int8, 'spec_hash', spec_hash, 'finished', finished_at IS NOT NULL,
      'system_identifier', to_jsonb(o) ->> 'system_identifier',
      'adopted', CASE WHEN to_jsonb(o) ->> 'adopted_at' IS NOT NULL THEN coalesce(to_jsonb(o) -> 'converged', '[]') END,
      'leaving', to_jsonb(o) ->> 'leaving_since' IS NOT NULL,
      'now', CASE kind
        WHEN 'database' THEN (
          SELECT json_build_object('name', d.datname, 'login', false, 'member_of', '[]'::json) FROM pg_database d WHERE d.oid = o.oid)
        ELSE (
          SELECT json_build_object('name', r.rolname, 'login', r.rolcanlogin, 'member_of', '[]'::json) FROM pg_roles r WHERE r.oid = o.oid)
      END) ORDER BY kind, name) FROM owned o), '[]'),
  'databases', coalesce((
    SELECT json_agg(json_build_object(
      'name', d.datname, 'oid', d.oid::int8, 'owner', pg_get_userbyid(d.datdba), 'invalid', d.datconnlimit = -2,
      'template', d.datistemplate, 'open', d.datallowconn,
      'governed', me.rolsuper OR pg_has_role(me.oid, d.datdba, 'USAGE')))
    FROM bases d, me), '[]'),
  'roles', coalesce((
    SELECT json_agg(json_build_object(
      'name', r.rolname, 'oid', r.oid::int8, 'replicates', r.rolreplication,
      'governed', me.rolsuper OR NOT r.rolsuper AND CASE
        WHEN current_setting('server_version_num')::int < 160000 THEN me.rolcreaterole
        ELSE me.rolcreaterole AND pg_has_role(me.oid, r.oid, 'USAGE WITH ADMIN OPTION') END))
    FROM people r, me), '[]'),
  'sessions', coalesce((
    SELECT json_agg(json_build_object(
      'database', a.datname, 'role', coalesce(a.usename, ''), 'application', coalesce(a.application_name, ''),
      'address', coalesce(host(a.client_addr), CASE WHEN a.client_port = -1 THEN 'the server itself' END),
      'since', a.backend_start::timestamptz(0)::text,
      'ends', me.rolsuper OR coalesce(NOT r.rolsuper, false) AND (
        pg_has_role(me.oid, a.usesysid, 'USAGE') OR pg_has_role(me.oid, 'pg_signal_backend', 'USAGE')))
      ORDER BY a.datname, a.usename, a.pid)
    FROM pg_stat_activity a LEFT JOIN pg_roles r ON r.oid = a.usesysid, me
    WHERE a.pid <> pg_backend_pid() AND a.usesysid IS NOT NULL
      AND (a.datname IN (SELECT datname FROM bases) OR a.usename IN (SELECT rolname FROM people))), '[]'),
  'slots', coalesce((
    SELECT json_agg(json_build_object('name', s.slot_name, 'database', s.database, 'role', a.usename))
    FROM pg_replication_slots s LEFT JOIN pg_stat_activity a ON a.pid = s.active_pid), '[]'),
  'prepared', coalesce((
    SELECT json_agg(json_build_object('gid', p.gid, 'database', p.database, 'owner', p.owner))
    FROM pg_prepared_xacts p WHERE p.database IN (SELECT datname FROM bases)), '[]'),
  'subscriptions', coalesce((
    SELECT json_agg(json_build_object('name', s.subname, 'database', b.datname))
    FROM pg_subscription s JOIN bases b ON b.oid = s.subdbid), '[]'),
  'uses', coalesce((
    SELECT json_agg(json_build_object('role', u.rolname, 'database', u.datname, 'things', u.things)) FROM (
      SELECT r.rolname, d.datname, count(*) AS things
      FROM pg_shdepend s JOIN people r ON r.oid = s.refobjid LEFT JOIN pg_database d
        ON d.oid = CASE WHEN s.dbid <> 0 THEN s.dbid WHEN s.classid = 'pg_database'::regclass THEN s.objid END
      WHERE s.refclassid = 'pg_authid'::regclass GROUP BY 1, 2) u), '[]'),
  'guests', coalesce((
    SELECT json_agg(json_build_object('database', g.datname, 'role', g.rolname, 'owns', g.owns, 'things', g.things, 'environment', (
      SELECT o.environment_name FROM rollcall.owned o
      WHERE o.kind <> 'database' AND o.name = g.rolname AND o.environment_uid <> $1::text::uuid LIMIT 1)) ORDER BY g.datname, g.rolname)
    FROM (
      SELECT b.datname, r.rolname, bool_or(s.deptype = 'o') AS owns, count(*) AS things
      FROM pg_shdepend s JOIN bases b ON b.oid = s.dbid JOIN pg_roles r ON r.oid = s.refobjid
      WHERE s.refclassid = 'pg_authid'::regclass AND NOT r.rolsuper AND r.rolname NOT IN (SELECT rolname FROM people)
        AND r.rolname <> current_user AND r.rolname !~ '^pg_' GROUP BY 1, 2) g), '[]'),
  'provisioners', coalesce((
    SELECT json_agg(DISTINCT format('`%s` at %s', a.application_name, coalesce(host(a.client_addr), 'an unseen address')))
    FROM pg_stat_activity a
    WHERE a.pid <> pg_backend_pid() AND a.datname = current_database() AND a.application_name = $4), '[]')
)::text";
