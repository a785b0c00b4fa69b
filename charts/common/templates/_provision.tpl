{{/*
Databases of a module's own, without a credential of their server: an init container that asks the environment's `postgres-init serve`
for what the chart's documents declare, and ends when it is there and lets the module in.

    initContainers:
      {{- include "rollcall.provision" . | nindent 6 }}
      {{- include "rollcall.wait" . | nindent 6 }}
    volumes:
      {{- include "rollcall.volumes" . | nindent 6 }}

Documents, settings and the registry of images are those of `rollcall` in the chart's values; see `rollcall.wait`. `rollcall.postgresInit`
is the address; the server's document delegates to this namespace. Where it names `accounts`, run the pod with one of them
(`serviceAccountName`): other pods of the namespace are refused. The passwords' Secrets are the namespace's own, read as
`rollcall.secrets` says: `files` or `api`. Those of `rollcall.fragments` are known; with `rollcall.documents` name them under
`rollcall.secretNames`. It renders nothing without the address.
*/}}
{{- define "rollcall.provision" -}}
{{- $config := include "rollcall.config" . | fromJson -}}
{{- if $config.postgresInit -}}
{{- if not (or $config.documents $config.fragments) -}}
{{- fail "rollcall.provision: databases stand in documents: name their ConfigMap under `rollcall.documents`, or give them under `rollcall.fragments`" -}}
{{- end -}}
{{- if eq $config.secrets "env" -}}
{{- fail "rollcall.provision: reads the passwords of its own roles: set `rollcall.secrets` to `files`, or to `api` and include \"rollcall.rights\"" -}}
{{- end -}}
{{- $secrets := (include "rollcall.secrets" . | fromJson).secrets -}}
{{- $files := eq $config.secrets "files" -}}
{{- $image := merge (dict "repository" "rollcall/postgres-init") (omit $config.image "repository" "digest") -}}
{{- $settings := merge (dict "ROLLCALL_DOCUMENTS" "/etc/rollcall/documents" "ROLLCALL_POSTGRES_INIT" $config.postgresInit "ROLLCALL_HUB_TOKEN_FILE" "/run/rollcall/postgres-init/token") ($config.settings | default dict) -}}
{{- if $files }}{{- $settings = merge (dict "ROLLCALL_SECRETS_DIR" "/run/rollcall/secrets") $settings -}}{{- end -}}
{{- if $config.timeout }}{{- $settings = merge $settings (dict "ROLLCALL_DEADLINE" $config.timeout) -}}{{- end -}}
- name: rollcall-provision
  image: {{ include "rollcall.image" (dict "image" $image "program" "postgres-init") | quote }}
  imagePullPolicy: {{ dig "pullPolicy" "IfNotPresent" $config.image }}
  args: [apply]
  env:
    {{- include "rollcall.settings" $settings | trim | nindent 4 }}
    - name: ROLLCALL_INSTANCE
      valueFrom: {fieldRef: {fieldPath: metadata.name}}
    {{- with $config.extraEnv }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  resources:
    {{- include "rollcall.resources" (dict "resources" $config.resources) | nindent 4 }}
  securityContext:
    {{- include "rollcall.securityContext" $config.securityContext | nindent 4 }}
  volumeMounts:
    - {name: rollcall-documents, mountPath: /etc/rollcall/documents, readOnly: true}
    - {name: rollcall-postgres-init, mountPath: /run/rollcall/postgres-init, readOnly: true}
    {{- if $files }}
    {{- range $secrets }}
    - {name: {{ include "rollcall.shorten" (dict "text" (printf "rollcall-%s" (replace "." "-" .)) "max" 63) }}, mountPath: /run/rollcall/secrets/{{ . }}, readOnly: true}
    {{- end }}
    {{- end }}
{{- end -}}
{{- end -}}

{{/*
The Secrets that are read in the pod, as a JSON list under `secrets`: those of the needs and, where `postgresInit` is given, those that the
chart's own documents name for roles of their databases and for how they reach their servers.
*/}}
{{- define "rollcall.secrets" -}}
{{- $config := include "rollcall.config" . | fromJson -}}
{{- $secrets := (include "rollcall.needs" . | fromJson).secrets -}}
{{- if $config.postgresInit -}}
{{- range $_, $fragment := $config.fragments -}}
{{- $references := list -}}
{{- range $_, $server := dig "uses" "postgres" dict $fragment -}}
{{- $references = append $references (dig "tls" "ca" nil $server) -}}
{{- end -}}
{{- range $_, $database := $fragment.databases -}}
{{- $references = concat $references (list (dig "roles" "app" "password" nil $database) (dig "roles" "app" "overlap" "password" nil $database) (dig "roles" "migrator" "password" nil $database)) -}}
{{- end -}}
{{- range $_, $role := $fragment.roles -}}{{- $references = append $references $role.password -}}{{- end -}}
{{- range $references -}}
{{- if . -}}
{{- $parts := splitList "/" .secret -}}
{{- if or (eq (len $parts) 1) (eq (first $parts) $fragment.fragment.namespace) -}}
{{- $secrets = append $secrets (last $parts) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson (dict "secrets" ($secrets | uniq)) -}}
{{- end -}}
