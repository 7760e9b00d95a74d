# Makes a local machine into one on which kubeadm can run at once: binaries, containerd, the kubelet's unit as the
# kubeadm packages have it, a CNI configuration (so that Ready waits for kubeadm alone) and all images.
# BUNDLE, PODS and IMAGES are set before this.
mkdir -p /usr/local/bin /opt/cni/bin /etc/cni/net.d /etc/containerd /var/lib/kubelet
ln -sf "$BUNDLE"/bin/* /usr/local/bin/
for plugin in bridge loopback host-local portmap; do ln -sf "$BUNDLE/bin/$plugin" /opt/cni/bin/; done

cat > /etc/cni/net.d/10-bridge.conflist <<END
{"cniVersion": "1.0.0", "name": "bench", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "ipam": {"type": "host-local",
    "ranges": [[{"subnet": "$PODS"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
END

pause=$(kubeadm config images list 2>/dev/null | grep /pause:)
cat > /etc/containerd/config.toml <<END
version = 3
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "$pause"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = ["/opt/cni/bin"]
  conf_dir = "/etc/cni/net.d"
END

cat > /etc/systemd/system/containerd.service <<'END'
[Service]
ExecStart=/usr/local/bin/containerd
Type=notify
Delegate=yes
KillMode=process
Restart=always
[Install]
WantedBy=multi-user.target
END

cat > /etc/systemd/system/kubelet.service <<'END'
[Unit]
After=containerd.service
Wants=containerd.service
StartLimitIntervalSec=0
[Service]
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
ExecStart=/usr/local/bin/kubelet --bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf --config=/var/lib/kubelet/config.yaml $KUBELET_KUBEADM_ARGS
Restart=always
RestartSec=1
[Install]
WantedBy=multi-user.target
END

systemctl daemon-reload
systemctl enable -q --now containerd
systemctl enable -q kubelet
ctr -n k8s.io images import "$IMAGES" >/dev/null
