{{/*
Waiting in somebody else's pod: an init container that ends when all needs are met, each of them looked at side by side.

    initContainers:
      {{- include "rollcall.wait" . | nindent 6 }}

It renders nothing where nothing is needed. `rollcall.volumes` belongs under the pod's `volumes` where documents or files are read.
*/}}
{{- define "rollcall.wait" -}}
{{- $config := include "rollcall.config" . | fromJson -}}
{{- if and (or $config.needs $config.module) (not (include "rollcall.sidecar.applies" .)) -}}
- name: {{ $config.name }}
  {{- include "rollcall.wait.container" . | nindent 2 }}
{{- end -}}
{{- end -}}

{{/*
The same as a native sidecar (`sidecar: true`): it holds back what follows it until the needs are met, and stays to look at them,
those at runtime too, and to tell of them on its ports. It needs documents. Before Kubernetes 1.29 `rollcall.wait` stands in.

    initContainers:
      {{- include "rollcall.wait" . | nindent 6 }}
      {{- include "rollcall.sidecar" . | nindent 6 }}
*/}}
{{- define "rollcall.sidecar" -}}
{{- if include "rollcall.sidecar.applies" . -}}
{{- $config := include "rollcall.config" . | fromJson -}}
{{- if not $config.module -}}
{{- fail "rollcall.sidecar: only needs that stand in documents can be looked at on and on; give `module` and `documents`" -}}
{{- end -}}
- name: {{ $config.name }}
  restartPolicy: Always
  {{- include "rollcall.wait.container" . | nindent 2 }}
  ports:
    - {name: rollcall-health, containerPort: 7071}
    - {name: rollcall-prom, containerPort: 7072}
  # It answers when the needs are met; until then what follows is not started.
  startupProbe:
    grpc: {port: 7071, service: liveness}
    periodSeconds: 1
    timeoutSeconds: 5
    failureThreshold: 2147483647
  livenessProbe:
    grpc: {port: 7071, service: liveness}
    timeoutSeconds: 10
    failureThreshold: 6
{{- end -}}
{{- end -}}

{{/* Whether there is a sidecar: it was asked for, and the cluster has such containers. */}}
{{- define "rollcall.sidecar.applies" -}}
{{- $config := include "rollcall.config" . | fromJson -}}
{{- $root := ternary .root . (and (hasKey . "root") (not (hasKey . "Values"))) -}}
{{- if and $config.sidecar (semverCompare ">=1.29.0-0" $root.Capabilities.KubeVersion.Version) -}}yes{{- end -}}
{{- end -}}

{{/* What stands in the container besides its name. */}}
{{- define "rollcall.wait.container" -}}
{{- $config := include "rollcall.config" . | fromJson -}}
{{- $all := include "rollcall.needs" . | fromJson -}}
{{- $args := list "wait" -}}
{{- if $config.module -}}
{{- $args = append $args (printf "--module=%s" $config.module) -}}
{{- end -}}
{{- range $all.needs -}}
{{- $args = append $args (printf "%s=%s" .flag .value) -}}
{{- end -}}
{{- $password := "" -}}
{{- if and (eq $config.secrets "env") (or $all.passwords $all.secrets) -}}
{{- if or (gt (len $all.secrets) 1) (gt (len $all.passwords) 1) (not $all.passwords) -}}
{{- fail "rollcall.secrets: env holds one password only; for `secret` and for several passwords set `secrets: files` and include \"rollcall.volumes\", or `secrets: api` and include \"rollcall.rights\"" -}}
{{- end -}}
{{- $password = first $all.passwords -}}
{{- else -}}
{{- range $all.passwords -}}
{{- $args = append $args (printf "--password-secret=%s" .) -}}
{{- end -}}
{{- end -}}
{{- with $config.timeout -}}{{- $args = append $args (printf "--timeout=%s" .) -}}{{- end -}}
{{- with $config.interval -}}{{- $args = append $args (printf "--interval=%s" .) -}}{{- end -}}
{{- if $config.failFast -}}{{- $args = append $args "--fail-fast" -}}{{- end -}}
{{- if include "rollcall.sidecar.applies" . -}}
{{- $args = concat $args (list "--" "/rollcall" "serve") -}}
{{- end -}}
{{- $documents := or $config.documents $config.fragments -}}
{{- $files := eq $config.secrets "files" -}}
image: {{ include "rollcall.image" (dict "image" $config.image "program" "wait-for-dependency") | quote }}
imagePullPolicy: {{ dig "pullPolicy" "IfNotPresent" ($config.image | default dict) }}
args:
  {{- toYaml $args | nindent 2 }}
{{- $settings := $config.settings | default dict -}}
{{- with $config.hub }}{{- $settings = merge (dict "ROLLCALL_HUB" . "ROLLCALL_HUB_TOKEN_FILE" "/run/rollcall/hub/token") $settings -}}{{- end -}}
{{- if $documents }}{{- $settings = merge (dict "ROLLCALL_DOCUMENTS" "/etc/rollcall/documents") $settings -}}{{- end -}}
{{- if $files }}{{- $settings = merge (dict "ROLLCALL_SECRETS_DIR" "/run/rollcall/secrets") $settings -}}{{- end -}}
{{- if or $settings $password $config.extraEnv }}
env:
  {{- include "rollcall.settings" $settings | trim | nindent 2 }}
  {{- $instance := hasKey $settings "ROLLCALL_INSTANCE" }}
  {{- range $config.extraEnv }}{{- $instance = or $instance (eq .name "ROLLCALL_INSTANCE") }}{{- end }}
  {{- if and $config.hub (not $instance) }}
  # A host name is cut off, and may be the node's.
  - name: ROLLCALL_INSTANCE
    valueFrom: {fieldRef: {fieldPath: metadata.name}}
  {{- end }}
  {{- if $password }}
  - name: PGPASSWORD
    valueFrom: {secretKeyRef: {name: {{ splitList ":" $password | first }}, key: {{ splitList ":" $password | last }}}}
  {{- end }}
  {{- with $config.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
resources:
  {{- include "rollcall.resources" (dict "resources" $config.resources) | nindent 2 }}
securityContext:
  {{- include "rollcall.securityContext" $config.securityContext | nindent 2 }}
{{- if or $documents $config.hub (and $files $all.secrets) $config.extraVolumeMounts }}
volumeMounts:
  {{- if $config.hub }}
  - {name: rollcall-hub, mountPath: /run/rollcall/hub, readOnly: true}
  {{- end }}
  {{- if $documents }}
  - {name: rollcall-documents, mountPath: /etc/rollcall/documents, readOnly: true}
  {{- end }}
  {{- if $files }}
  {{- range $all.secrets }}
  - {name: {{ include "rollcall.shorten" (dict "text" (printf "rollcall-%s" (replace "." "-" .)) "max" 63) }}, mountPath: /run/rollcall/secrets/{{ . }}, readOnly: true}
  {{- end }}
  {{- end }}
  {{- with $config.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* The pod's volumes that the container uses; nothing where it uses none. A Secret that is missing keeps no pod from starting. */}}
{{- define "rollcall.volumes" -}}
{{- $config := include "rollcall.config" . | fromJson -}}
{{- if or $config.documents $config.fragments }}
- name: rollcall-documents
  configMap: {name: {{ include "rollcall.config.documents" . }}}
{{- end }}
{{- if $config.hub }}
- name: rollcall-hub
  {{- $root := ternary .root . (and (hasKey . "root") (not (hasKey . "Values"))) }}
  {{- include "rollcall.hub.token" (dict "hub" $config.hub "hubNamespace" $config.hubNamespace "namespace" $root.Release.Namespace) | nindent 2 }}
{{- end }}
{{- if $config.postgresInit }}
- name: rollcall-postgres-init
  {{- $root := ternary .root . (and (hasKey . "root") (not (hasKey . "Values"))) }}
  {{- include "rollcall.hub.token" (dict "hub" $config.postgresInit "hubNamespace" $config.postgresInitNamespace "namespace" $root.Release.Namespace) | nindent 2 }}
{{- end }}
{{- if eq $config.secrets "files" }}
{{- range (include "rollcall.secrets" . | fromJson).secrets }}
- name: {{ include "rollcall.shorten" (dict "text" (printf "rollcall-%s" (replace "." "-" .)) "max" 63) }}
  secret: {secretName: {{ . }}, optional: true}
{{- end }}
{{- end }}
{{- end -}}

{{/* The pod's annotations: other needs or documents, another pod. */}}
{{- define "rollcall.annotations" -}}
{{- $config := include "rollcall.config" . | fromJson -}}
{{- if or $config.needs $config.module -}}
rollcall/needs: {{ printf "%s%s%s" (toJson $config.needs) (toString $config.module) (toJson $config.fragments) | sha256sum }}
{{- end -}}
{{- end -}}

{{/* The ConfigMap of the documents that the chart itself has under `fragments`; a file of its own in the chart's templates. */}}
{{- define "rollcall.configmap" -}}
{{- $config := include "rollcall.config" . | fromJson -}}
{{- $root := ternary .root . (and (hasKey . "root") (not (hasKey . "Values"))) -}}
{{- if $config.fragments -}}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ include "rollcall.config.documents" . }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    app.kubernetes.io/instance: {{ $root.Release.Name }}
    app.kubernetes.io/part-of: rollcall
    app.kubernetes.io/managed-by: {{ $root.Release.Service }}
data:
  {{- range $name, $fragment := $config.fragments }}
  {{ $name }}.json: {{ toJson $fragment | quote }}
  {{- end }}
{{- end -}}
{{- end -}}

{{/*
The right to read the Secrets that `needs` name, and those of `rollcall.provision`, through the API server (`secrets: api`), for the pod's own service account; a
file of its own in the chart's templates. What the waiter of a module in documents may read `rollcall rbac --module` prints.
*/}}
{{- define "rollcall.rights" -}}
{{- $config := include "rollcall.config" . | fromJson -}}
{{- $root := ternary .root . (and (hasKey . "root") (not (hasKey . "Values"))) -}}
{{- $secrets := (include "rollcall.secrets" . | fromJson).secrets -}}
{{- if and (eq $config.secrets "api") $secrets -}}
{{- $account := required "rollcall.serviceAccountName: say as which account the pod runs, so that it is given the right to read its Secrets" $config.serviceAccountName -}}
{{- $name := include "rollcall.shorten" (dict "text" (printf "%s-%s-rollcall-wait" $root.Release.Name $root.Chart.Name) "max" 63) -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {{ $name }}
  namespace: {{ $root.Release.Namespace }}
rules:
  - {apiGroups: [""], resources: [secrets], resourceNames: {{ toJson $secrets }}, verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ $name }}
  namespace: {{ $root.Release.Namespace }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: {{ $name }}}
subjects:
  - {kind: ServiceAccount, name: {{ tpl $account $root }}, namespace: {{ $root.Release.Namespace }}}
{{- end -}}
{{- end -}}
