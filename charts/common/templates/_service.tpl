{{/* One part as it runs: a Deployment that serves, or a Job that applies once. */}}

{{/* A chart that is one part: its documents and the part. Give: root, kind. */}}
{{- define "rollcall.chart" -}}
{{- $part := merge (dict "values" .root.Values "suffix" "" "fragments" .root.Values.fragments) . -}}
{{- include "rollcall.documents" $part }}
{{- include "rollcall.part" $part }}
{{- end -}}

{{/* The namespaces that the documents' servers delegate to, as a JSON list under `namespaces`. Give: a part. */}}
{{- define "rollcall.delegates" -}}
{{- $namespaces := list -}}
{{- range $_, $fragment := .fragments -}}
  {{- range $_, $server := $fragment.postgres -}}
    {{- range $server.delegate -}}{{- $namespaces = concat $namespaces (.namespaces | default list) -}}{{- end -}}
  {{- end -}}
{{- end -}}
{{- toJson (dict "namespaces" ($namespaces | uniq)) -}}
{{- end -}}

{{/* Whether modules speak to a part: to postgres-init only where it serves and a server delegates. Give: a part. */}}
{{- define "rollcall.part.clients" -}}
{{- $what := include "rollcall.kind" . | fromYaml -}}
{{- if $what.clients -}}yes
{{- else if and (eq .kind "postgres-init") (ne (.values.run | default "serve") "apply") (include "rollcall.delegates" . | fromJson).namespaces -}}yes
{{- end -}}
{{- end -}}

{{/* A part in full: its account, its Roles, what runs, who reaches it. Give: a part, and more (arguments of one that applies; may be empty). */}}
{{- define "rollcall.part" -}}
{{- include "rollcall.fragments.check" . -}}
{{- $what := include "rollcall.kind" . | fromYaml -}}
{{- include "rollcall.account" . }}
{{- include "rollcall.roles" . }}
{{- if eq (.values.run | default "serve") "apply" }}
{{- include "rollcall.job" (merge (dict "args" (concat $what.apply (.more | default list)) "restart" "Never") .) }}
{{- else }}
{{- $args := $what.serve }}
{{- if $what.mounts }}
{{- /* By its documents' name: nobody else in the namespace has it. */}}
{{- $args = append $args (printf "--release=%s/%s" .root.Release.Namespace (include "rollcall.fullname" .root)) }}
{{- end }}
{{- include "rollcall.deployment" (merge (dict "args" $args) .) }}
{{- end }}
{{- if include "rollcall.part.clients" . }}
{{- include "rollcall.clients" . }}
{{- end }}
{{- include "rollcall.networkPolicy" . }}
{{- end -}}

{{/* Give: a part with args. */}}
{{- define "rollcall.deployment" -}}
{{- $what := include "rollcall.kind" . | fromYaml }}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "rollcall.part.name" . }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "rollcall.labels" (dict "root" .root "component" .kind) | nindent 4 }}
spec:
  replicas: {{ ternary .values.replicas 1 (hasKey .values "replicas") }}
  {{- with $what.strategy }}
  # One at a time: two would tell the same news twice.
  strategy: {type: {{ . }}}
  {{- end }}
  selector:
    matchLabels:
      {{- include "rollcall.selectorLabels" (dict "root" .root "component" .kind) | nindent 6 }}
  template:
    {{- include "rollcall.pod" . | nindent 4 }}
{{- end -}}

{{/*
A Job, named by the hash of what it is: what is the same keeps its name, and what is not collides with nothing, though a Job
cannot be changed. Give: a part with args, and init (may be empty).
*/}}
{{- define "rollcall.job" -}}
{{- $spec := include "rollcall.job.spec" . -}}
{{- $name := include "rollcall.shorten" (dict "text" (include "rollcall.part.name" .) "max" 54) }}
---
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ $name }}-{{ $spec | sha256sum | trunc 8 }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "rollcall.labels" (dict "root" .root "component" .kind) | nindent 4 }}
  {{- with (.values.job | default dict).annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- $spec | nindent 2 }}
{{- end -}}

{{/* Give: as for rollcall.job. */}}
{{- define "rollcall.job.spec" -}}
{{- $job := .values.job | default dict -}}
backoffLimit: {{ ternary $job.backoffLimit 6 (hasKey $job "backoffLimit") }}
{{- with $job.activeDeadlineSeconds }}
activeDeadlineSeconds: {{ . }}
{{- end }}
{{- if not (kindIs "invalid" $job.ttlSecondsAfterFinished) }}
ttlSecondsAfterFinished: {{ $job.ttlSecondsAfterFinished }}
{{- end }}
# What trying again does not mend ends the Job at once: wrong usage, refused, in a circle.
podFailurePolicy:
  rules:
    - action: Ignore
      onPodConditions: [{type: DisruptionTarget, status: "True"}]
    - action: FailJob
      onExitCodes: {operator: In, values: [2, 65, 70]}
template:
  {{- include "rollcall.pod" . | nindent 2 }}
{{- end -}}

{{/* Where clients find a part. Give: a part. */}}
{{- define "rollcall.clients" }}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ include "rollcall.part.name" . }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "rollcall.labels" (dict "root" .root "component" .kind) | nindent 4 }}
  {{- with .values.serviceAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  selector:
    {{- include "rollcall.selectorLabels" (dict "root" .root "component" .kind) | nindent 4 }}
  ports:
    - {name: grpc, port: 7070, targetPort: grpc, appProtocol: kubernetes.io/h2c}
    - {name: metrics, port: 7072, targetPort: metrics}
{{- end -}}

{{/*
Who may speak to a part: anybody to its health port, Prometheus to its metrics, and to its gRPC the pods of the documents'
namespaces if it has clients, nobody otherwise (port-forwarding is not the network's affair). Give: a part.
*/}}
{{- define "rollcall.networkPolicy" -}}
{{- $policy := .values.networkPolicy | default dict -}}
{{- if ne (toString $policy.enabled) "false" }}
{{- $what := include "rollcall.kind" . | fromYaml }}
{{- $namespaces := list .root.Release.Namespace }}
{{- range .fragments }}
{{- $namespaces = append $namespaces .fragment.namespace }}
{{- end }}
{{- if eq .kind "postgres-init" }}
{{- $namespaces = concat $namespaces (include "rollcall.delegates" . | fromJson).namespaces }}
{{- end }}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "rollcall.part.name" . }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "rollcall.labels" (dict "root" .root "component" .kind) | nindent 4 }}
spec:
  podSelector:
    matchLabels:
      {{- include "rollcall.selectorLabels" (dict "root" .root "component" .kind) | nindent 6 }}
  policyTypes:
    - Ingress
    {{- if $policy.egress }}
    - Egress
    {{- end }}
  {{- if eq (.values.run | default "serve") "apply" }}
  ingress: []
  {{- else }}
  ingress:
    - ports: [{port: health}]
    - ports: [{port: metrics}]
      {{- with $policy.metricsFrom }}
      from:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    {{- if include "rollcall.part.clients" . }}
    - ports: [{port: grpc}]
      from:
        - namespaceSelector:
            matchExpressions:
              - {key: kubernetes.io/metadata.name, operator: In, values: {{ toJson ($namespaces | uniq | sortAlpha) }}}
        {{- with $policy.from }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    {{- end }}
  {{- end }}
  {{- with $policy.egress }}
  egress:
    - ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end -}}
