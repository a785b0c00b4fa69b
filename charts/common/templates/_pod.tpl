{{/* What all pods of Rollcall have in common, and what its containers have in pods of others. */}}

{{/* A container's security context, with what a chart's user changes. Give: the values to merge, a dict. */}}
{{- define "rollcall.securityContext" -}}
{{- $ours := dict "allowPrivilegeEscalation" false "readOnlyRootFilesystem" true "capabilities" (dict "drop" (list "ALL")) -}}
{{- /* Repeated for pods that say nothing of it themselves. */ -}}
{{- $ours = merge $ours (dict "runAsNonRoot" true "runAsUser" 65532 "runAsGroup" 65532 "seccompProfile" (dict "type" "RuntimeDefault")) -}}
{{- mustMergeOverwrite $ours (. | default dict) | toYaml -}}
{{- end -}}

{{/* Resources: what a chart's user says, or little. Give: resources (may be empty), memory (the default limit). */}}
{{- define "rollcall.resources" -}}
{{- if .resources -}}
{{- toYaml .resources -}}
{{- else -}}
requests: {cpu: 10m, memory: {{ .request | default "16Mi" }}}
limits: {memory: {{ .memory | default "64Mi" }}}
{{- end -}}
{{- end -}}

{{/* Environment variables from settings: a map of ROLLCALL_ names. */}}
{{- define "rollcall.settings" -}}
{{- range $name, $value := . }}
- {name: {{ $name }}, value: {{ $value | toString | quote }}}
{{- end }}
{{- end -}}

{{/* What several charts check of their documents. Give: a part. */}}
{{- define "rollcall.fragments.check" -}}
{{- if not .fragments -}}
{{- fail "fragments: give at least one document, by a name of its own; what to write in it says the README" -}}
{{- end -}}
{{- $uids := list -}}
{{- range .fragments -}}
{{- $uids = append $uids (lower .environment.uid) -}}
{{- end -}}
{{- if gt (len (uniq $uids)) 1 -}}
{{- fail "fragments: they are of several environments; install one release for each" -}}
{{- end -}}
{{- end -}}

{{/* What a volume holds by which the hub knows the pod: good for nothing else. */}}
{{- define "rollcall.hub.token" -}}
projected:
  sources: [{serviceAccountToken: {audience: {{ include "rollcall.hub.audience" . }}, expirationSeconds: 3600, path: token}}]
{{- end -}}

{{/* For whom it is: hubs of one namespace, which the address of a Service tells. Give: hub (its address), hubNamespace (what is said of it; may be empty), namespace (the pod's). */}}
{{- define "rollcall.hub.audience" -}}
{{- $host := regexReplaceAll "^[a-z]+://([^:/]+).*$" (toString .hub) "${1}" -}}
{{- if .hubNamespace -}}
rollcall/{{ .hubNamespace }}
{{- else if regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.svc(\\..*)?)?)?$" $host -}}
{{- $labels := splitList "." $host -}}
rollcall/{{ if gt (len $labels) 1 }}{{ index $labels 1 }}{{ else }}{{ .namespace }}{{ end }}
{{- else -}}
rollcall
{{- end -}}
{{- end -}}

{{/* Whether a part tells a hub what it knows. Give: a part. */}}
{{- define "rollcall.part.tells" -}}
{{- if or (.settings | default dict).ROLLCALL_HUB (.values.settings | default dict).ROLLCALL_HUB -}}yes{{- end -}}
{{- end -}}

{{/* The ConfigMap of a chart's documents. Give: a part. */}}
{{- define "rollcall.documents" -}}
{{- include "rollcall.fragments.check" . }}
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ include "rollcall.fullname" .root }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "rollcall.labels" (dict "root" .root) | nindent 4 }}
data:
  {{- range $name, $fragment := .fragments }}
  {{ $name }}.json: {{ toJson $fragment | quote }}
  {{- end }}
{{- end -}}

{{/* The account a part runs as. Give: a part. */}}
{{- define "rollcall.account" -}}
{{- $account := .values.serviceAccount | default dict -}}
{{- if ne (toString $account.create) "false" }}
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "rollcall.part.account" . }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "rollcall.labels" (dict "root" .root "component" .kind) | nindent 4 }}
  {{- with $account.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: false
{{- end }}
{{- end -}}

{{/* Whether a part asks the API server anything. Give: a part. */}}
{{- define "rollcall.asks" -}}
{{- if ne .kind "telemetry-exporter" -}}yes{{- end -}}
{{- end -}}

{{/* The pod of a part. Give: a part with args, and restart (its restartPolicy, may be empty) and init (init containers, YAML). */}}
{{- define "rollcall.pod" -}}
{{- $part := . -}}
{{- $root := .root -}}
{{- $what := include "rollcall.kind" . | fromYaml -}}
{{- with .values -}}
metadata:
  labels:
    {{- include "rollcall.labels" (dict "root" $root "component" $part.kind) | nindent 4 }}
    {{- with .podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # Documents are read once: other documents, another pod.
    rollcall/documents: {{ toJson $part.fragments | sha256sum }}
    {{- with .podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "rollcall.part.account" $part }}
  # Only our own container is given a token, and one that is soon no longer good.
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- with $part.restart }}
  restartPolicy: {{ . }}
  {{- end }}
  {{- with .priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    {{- $ours := dict "runAsNonRoot" true "runAsUser" 65532 "runAsGroup" 65532 "seccompProfile" (dict "type" "RuntimeDefault") }}
    {{- mustMergeOverwrite $ours (.podSecurityContext | default dict) | toYaml | nindent 4 }}
  {{- if or $part.init .extraInitContainers }}
  initContainers:
    {{- with $part.init }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- with .extraInitContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
  containers:
    - name: {{ $part.kind }}
      {{- include "rollcall.container" (merge (dict "program" $what.program "once" $part.restart) $part) | nindent 6 }}
      {{- if not $part.restart }}
      ports:
        - {name: grpc, containerPort: 7070}
        - {name: health, containerPort: 7071}
        - {name: metrics, containerPort: 7072}
      # Who is slow on a busy node is not ended for it: then all would poll meanwhile, and the node be busier still.
      livenessProbe:
        grpc: {port: 7071, service: liveness}
        timeoutSeconds: 10
        failureThreshold: 6
      readinessProbe:
        grpc: {port: 7071, service: readiness}
        timeoutSeconds: 5
      {{- end }}
  {{- range $key := list "nodeSelector" "affinity" "tolerations" "topologySpreadConstraints" }}
  {{- with index $part.values $key }}
  {{ $key }}:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
  volumes:
    - name: documents
      configMap: {name: {{ include "rollcall.fullname" $root }}}
    {{- if include "rollcall.part.tells" $part }}
    - name: hub
      {{- $hub := coalesce ($part.values.settings | default dict).ROLLCALL_HUB ($part.settings | default dict).ROLLCALL_HUB }}
      {{- include "rollcall.hub.token" (dict "hub" $hub "namespace" $root.Release.Namespace) | nindent 6 }}
    {{- end }}
    {{- if include "rollcall.asks" $part }}
    - name: api
      projected:
        sources:
          - serviceAccountToken: {path: token, expirationSeconds: 600}
          - configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}
          - downwardAPI: {items: [{path: namespace, fieldRef: {fieldPath: metadata.namespace}}]}
    {{- end }}
    {{- with .extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
{{- end -}}

{{/* What stands in a container of ours besides its name. Give: a part with args and program, and once (if it is to end). */}}
{{- define "rollcall.container" -}}
{{- with .values -}}
image: {{ include "rollcall.image" (dict "image" .image "program" $.program) | quote }}
imagePullPolicy: {{ dig "pullPolicy" "IfNotPresent" (.image | default dict) }}
args:
  {{- toYaml $.args | nindent 2 }}
env:
  - {name: ROLLCALL_DOCUMENTS, value: /etc/rollcall/documents}
  - {name: ROLLCALL_LISTEN, value: "0.0.0.0:7070"}
  - name: ROLLCALL_INSTANCE
    valueFrom: {fieldRef: {fieldPath: metadata.name}}
  {{- if include "rollcall.part.tells" $ }}
  - {name: ROLLCALL_HUB_TOKEN_FILE, value: /run/rollcall/hub/token}
  {{- end }}
  {{- $usual := dict }}
  {{- if $.once }}{{- $usual = dict "ROLLCALL_DEADLINE" ((.job | default dict).deadline | default "1h") }}{{- end }}
  {{- with merge (dict) (.settings | default dict) ($.settings | default dict) $usual }}
  {{- include "rollcall.settings" . | trim | nindent 2 }}
  {{- end }}
  {{- with .extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
resources:
  {{- include "rollcall.resources" (dict "resources" .resources "request" "32Mi" "memory" "128Mi") | nindent 2 }}
securityContext:
  {{- include "rollcall.securityContext" .securityContext | nindent 2 }}
volumeMounts:
  - {name: documents, mountPath: /etc/rollcall/documents, readOnly: true}
  {{- if include "rollcall.part.tells" $ }}
  - {name: hub, mountPath: /run/rollcall/hub, readOnly: true}
  {{- end }}
  {{- if include "rollcall.asks" $ }}
  - {name: api, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
  {{- end }}
  {{- with .extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}
{{- end -}}
