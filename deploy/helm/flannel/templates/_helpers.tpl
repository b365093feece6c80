{{/* Labels of all objects. */}}
{{- define "flannel.labels" -}}
{{- mergeOverwrite (dict "app" "flannel" "tier" "node") (deepCopy (.Values.flannel.labels | default dict)) (dict "app" "flannel") | toYaml }}
{{- end }}

{{/* The part of metadata that all objects have. */}}
{{- define "flannel.metadata" -}}
labels:
  {{- include "flannel.labels" . | nindent 2 }}
{{- with .Values.flannel.annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* An image of {repository, tag}. */}}
{{- define "flannel.image" -}}
{{- printf "%s:%s" .repository (toString .tag) }}
{{- end }}

{{/* The network config's Backend object. What is empty, zero or false is left out, as in upstream's chart. */}}
{{- define "flannel.backend" -}}
{{- $f := .Values.flannel }}
{{- $backend := dict "Type" $f.backend }}
{{- if eq $f.backend "vxlan" }}
{{- with $f.backendPort }}{{ $_ := set $backend "Port" (int .) }}{{ end }}
{{- with $f.vni }}{{ $_ := set $backend "VNI" (int .) }}{{ end }}
{{- with $f.mtu }}{{ $_ := set $backend "MTU" (int .) }}{{ end }}
{{- if eq (toString $f.GBP) "true" }}{{ $_ := set $backend "GBP" true }}{{ end }}
{{- if eq (toString $f.directRouting) "true" }}{{ $_ := set $backend "DirectRouting" true }}{{ end }}
{{- with $f.macPrefix }}{{ $_ := set $backend "MacPrefix" (toString .) }}{{ end }}
{{- else if eq $f.backend "wireguard" }}
{{- with $f.backendPort }}{{ $_ := set $backend "ListenPort" (int .) }}{{ end }}
{{- with $f.backendPortv6 }}{{ $_ := set $backend "ListenPortV6" (int .) }}{{ end }}
{{- with $f.mtu }}{{ $_ := set $backend "MTU" (int .) }}{{ end }}
{{- with $f.psk }}{{ $_ := set $backend "PSK" (toString .) }}{{ end }}
{{- with $f.tunnelMode }}{{ $_ := set $backend "Mode" (toString .) }}{{ end }}
{{- with $f.keepaliveInterval }}{{ $_ := set $backend "PersistentKeepaliveInterval" (int .) }}{{ end }}
{{- else if eq $f.backend "udp" }}
{{- with $f.backendPort }}{{ $_ := set $backend "Port" (int .) }}{{ end }}
{{- end }}
{{- mergeOverwrite $backend (deepCopy ($f.backendOptions | default dict)) | toJson }}
{{- end }}

{{/* The network config. */}}
{{- define "flannel.netConf" -}}
{{- if not (or .Values.podCidr .Values.podCidrv6) }}
{{- fail "podCidr and podCidrv6 are both empty: the cluster's pod network has to be in one of them" }}
{{- end }}
{{- $config := dict "EnableNFTables" (eq (toString .Values.flannel.enableNFTables) "true") "Backend" (include "flannel.backend" . | fromJson) }}
{{- if .Values.podCidr }}
{{- $_ := set $config "Network" .Values.podCidr }}
{{- else }}
{{- $_ := set $config "EnableIPv4" false }}
{{- end }}
{{- if .Values.podCidrv6 }}
{{- $_ := set $config "EnableIPv6" true }}
{{- $_ := set $config "IPv6Network" .Values.podCidrv6 }}
{{- end }}
{{- toPrettyJson $config }}
{{- end }}

{{/* The file of --plugin-grants: TOML, in which a JSON text is a text. */}}
{{- define "flannel.grants" -}}
{{- range .Values.flannel.signers }}
[[signer]]
name = {{ toJson .name }}
key = {{ toJson .key }}
{{ end }}
{{- range .Values.flannel.plugins }}
{{- with .grant }}
[[grant]]
{{- $grant := . }}
{{- range list "digest" "name" "signer" "key" }}
{{- $value := index $grant . }}
{{- if $value }}
{{ . }} = {{ toJson $value }}
{{- end }}
{{- end }}
allow = {{ toJson .allow }}
{{ end }}
{{- end }}
{{- end }}

{{/* Whether there is such a file. */}}
{{- define "flannel.hasGrants" -}}
{{- if or .Values.flannel.signers (and .Values.flannel.plugins (index .Values.flannel.plugins 0).grant) }}true{{ end }}
{{- end }}

{{/* The daemon's command line. */}}
{{- define "flannel.command" -}}
- /opt/bin/flanneld
{{- range .Values.flannel.args }}
- {{ toString . | quote }}
{{- end }}
{{- with int .Values.flannel.healthz.port }}
- --healthz-port={{ . }}
{{- if not $.Values.podCidr }}
- "--healthz-ip=::"
{{- end }}
{{- end }}
{{- if not .Values.flannel.skipCNIConfigInstallation }}
- --cni-conf-from=/etc/kube-flannel/cni-conf.json
- --cni-conf-to=/etc/cni/net.d/10-flannel.conflist
{{- end }}
{{- range .Values.flannel.plugins }}
- {{ printf "--plugin=%s" .plugin | quote }}
{{- end }}
{{- if include "flannel.hasGrants" . }}
- --plugin-grants=/etc/flanneld/plugins/grants.toml
{{- end }}
{{- end }}

{{/* The daemon's security context. udp needs a TUN device, which is none that other containers have. */}}
{{- define "flannel.securityContext" -}}
{{- $context := dict "privileged" (eq .Values.flannel.backend "udp") "allowPrivilegeEscalation" false "readOnlyRootFilesystem" true "capabilities" (dict "drop" (list "ALL") "add" (list "NET_ADMIN" "NET_RAW")) }}
{{- $context = mergeOverwrite $context (deepCopy (.Values.flannel.securityContext | default dict)) }}
{{- if $context.privileged }}
{{- /* The API server takes them together only. */}}
{{- $_ := set $context "allowPrivilegeEscalation" true }}
{{- end }}
{{- toYaml $context }}
{{- end }}
