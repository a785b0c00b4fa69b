{{- define "common.tplvalues.render" -}}
{{- $text := typeIs "string" .value | ternary .value (.value | toYaml) }}
{{- if contains "{{" (toJson .value) }}{{ tpl $text .context }}{{ else }}{{ $text }}{{ end }}
{{- end -}}
