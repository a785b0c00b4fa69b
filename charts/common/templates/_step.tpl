{{/*
A step in somebody else's pod: a command that runs once in an environment. Two init containers: one brings the program, the other runs
the command with it in an image of the module's own, whatever that has in it.

    initContainers:
      {{- include "rollcall.step" (dict "root" . "step" (dict "name" "load-masterdata" "image" "mosip/masterdata-loader:1.3.0" "command" (list "./load.sh"))) | nindent 6 }}
    volumes:
      {{- include "rollcall.step.volumes" . | nindent 6 }}

Documents, settings and the registry of images are those of `rollcall` in the chart's values; see `rollcall.wait`. With
`rollcall.postgresInit` the ledger is kept by the `postgres-init serve` at that address, and no credential of its server is needed. Give in `step`:
`name` (as the documents call it), `image`, `command` (a list); and where they are wanted `again` or `baseline` (true, once), `inputs`
(files), `inputEnv` and `secretEnv` (names of variables), `pullPolicy`, `env`, `envFrom`, `volumeMounts`, `resources`, `securityContext`.
*/}}
{{- define "rollcall.step" -}}
{{- $known := list "name" "image" "command" "again" "baseline" "inputs" "inputEnv" "secretEnv" "pullPolicy" "env" "envFrom" "volumeMounts" "resources" "securityContext" -}}
{{- $root := .root -}}
{{- $step := .step -}}
{{- range $key, $_ := $step -}}
{{- if not (has $key $known) -}}
{{- fail (printf "rollcall.step: has no key `%s`; known are: %s" $key (join ", " $known)) -}}
{{- end -}}
{{- end -}}
{{- range $key := list "name" "image" "command" -}}
{{- if not (get $step $key) -}}{{- fail (printf "rollcall.step.%s: is missing" $key) -}}{{- end -}}
{{- end -}}
{{- if not (kindIs "slice" $step.command) -}}{{- fail "rollcall.step.command: write a list, a word each" -}}{{- end -}}
{{- if and $step.again $step.baseline -}}{{- fail "rollcall.step: `again` and `baseline` exclude each other" -}}{{- end -}}
{{- $config := include "rollcall.config" (omit . "step") | fromJson -}}
{{- if not (or $config.documents $config.fragments) -}}
{{- fail (printf "rollcall.step: step `%s` stands in documents: name their ConfigMap under `rollcall.documents`, or give them under `rollcall.fragments`" $step.name) -}}
{{- end -}}
{{- $name := include "rollcall.shorten" (dict "text" (printf "step-%s" (replace "." "-" (replace "_" "-" $step.name))) "max" 57) -}}
{{- $args := list "step" $step.name -}}
{{- if $step.again -}}{{- $args = append $args "--again" -}}{{- end -}}
{{- if $step.baseline -}}{{- $args = append $args "--baseline" -}}{{- end -}}
{{- range $step.inputs -}}{{- $args = append $args (printf "--input=%s" .) -}}{{- end -}}
{{- range $step.inputEnv -}}{{- $args = append $args (printf "--env=%s" .) -}}{{- end -}}
{{- range $step.secretEnv -}}{{- $args = append $args (printf "--secret-env=%s" .) -}}{{- end -}}
{{- $args = concat $args (list "--") $step.command -}}
{{- $image := merge (dict "repository" "rollcall/postgres-init") (omit $config.image "repository" "digest") -}}
{{- $settings := merge (dict "ROLLCALL_DOCUMENTS" "/etc/rollcall/documents") ($config.settings | default dict) -}}
{{- with $config.postgresInit -}}{{- $settings = merge (dict "ROLLCALL_POSTGRES_INIT" . "ROLLCALL_HUB_TOKEN_FILE" "/run/rollcall/postgres-init/token") $settings -}}{{- end -}}
{{- $secrets := list -}}
{{- if and $config.postgresInit (eq $config.secrets "files") -}}
{{- $secrets = (include "rollcall.secrets" (omit . "step") | fromJson).secrets -}}
{{- $settings = merge (dict "ROLLCALL_SECRETS_DIR" "/run/rollcall/secrets") $settings -}}
{{- end -}}
- name: {{ printf "%s-bring" $name }}
  image: {{ include "rollcall.image" (dict "image" $image "program" "postgres-init") | quote }}
  imagePullPolicy: {{ dig "pullPolicy" "IfNotPresent" $config.image }}
  args: [install, /run/rollcall/bin]
  resources:
    {{- include "rollcall.resources" (dict "resources" dict) | nindent 4 }}
  securityContext:
    {{- include "rollcall.securityContext" $config.securityContext | nindent 4 }}
  volumeMounts:
    - {name: rollcall-bin, mountPath: /run/rollcall/bin}
- name: {{ $name }}
  image: {{ tpl $step.image $root | quote }}
  imagePullPolicy: {{ $step.pullPolicy | default "IfNotPresent" }}
  # With its own libraries: the image's may be others, or none.
  command: [/run/rollcall/bin/ld.so, --library-path, /run/rollcall/bin, /run/rollcall/bin/postgres-init]
  args:
    {{- toYaml $args | nindent 4 }}
  env:
    {{- include "rollcall.settings" $settings | trim | nindent 4 }}
    - name: ROLLCALL_INSTANCE
      valueFrom: {fieldRef: {fieldPath: metadata.name}}
    {{- with $step.env }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $step.envFrom }}
  envFrom:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $step.resources }}
  resources:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $step.securityContext }}
  securityContext:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  volumeMounts:
    - {name: rollcall-bin, mountPath: /run/rollcall/bin, readOnly: true}
    - {name: rollcall-documents, mountPath: /etc/rollcall/documents, readOnly: true}
    {{- if $config.postgresInit }}
    - {name: rollcall-postgres-init, mountPath: /run/rollcall/postgres-init, readOnly: true}
    {{- end }}
    {{- range $secrets }}
    - {name: {{ include "rollcall.shorten" (dict "text" (printf "rollcall-%s" (replace "." "-" .)) "max" 63) }}, mountPath: /run/rollcall/secrets/{{ . }}, readOnly: true}
    {{- end }}
    {{- with $step.volumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{/* The pod's volumes that steps use, those of `rollcall.volumes` among them. */}}
{{- define "rollcall.step.volumes" -}}
{{- include "rollcall.volumes" . | trim }}
- name: rollcall-bin
  emptyDir: {}
{{- end -}}
