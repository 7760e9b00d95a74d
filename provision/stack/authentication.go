package stack

import (
	"crypto/sha256"
	"fmt"
)

// APIServerService is the unit of kube-apiserver.
const APIServerService = "kube-apiserver.service"

// ConfigHash is how API servers tell the configuration that they work by.
func ConfigHash(config []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(config)) }
