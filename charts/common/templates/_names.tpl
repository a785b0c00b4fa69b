{{/* Names and labels, as other tools expect them. */}}

{{/* A text, or its beginning and a hash of all of it when it is longer than `max`. Give: text, max. */}}
{{- define "rollcall.shorten" -}}
{{- if le (len .text) (int .max) -}}
{{- .text -}}
{{- else -}}
{{- printf "%s-%s" (.text | trunc (int (sub .max 9)) | trimSuffix "-") (.text | sha256sum | trunc 8) -}}
{{- end -}}
{{- end -}}

{{- define "rollcall.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := printf "%s-%s" .Release.Name $name -}}
{{- if .Values.fullnameOverride -}}
{{- $full = .Values.fullnameOverride -}}
{{- else if contains $name .Release.Name -}}
{{- $full = .Release.Name -}}
{{- end -}}
{{- include "rollcall.shorten" (dict "text" $full "max" 63) -}}
{{- end -}}

{{/* The name of what belongs to one part of a chart. Give: root, suffix (may be empty). */}}
{{- define "rollcall.name" -}}
{{- $full := include "rollcall.fullname" .root -}}
{{- if .suffix -}}
{{- printf "%s-%s" (include "rollcall.shorten" (dict "text" $full "max" (sub 62 (len .suffix)))) .suffix -}}
{{- else -}}
{{- $full -}}
{{- end -}}
{{- end -}}

{{/* Give: root, component. */}}
{{- define "rollcall.selectorLabels" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end -}}

{{/* Give: root, component. */}}
{{- define "rollcall.labels" -}}
{{ include "rollcall.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: rollcall
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}
