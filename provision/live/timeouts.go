package live

import (
	"time"
)

const (
	// CompareTimeout bounds one query to the API or to etcd.
	CompareTimeout = 10 * time.Second
)

const (
	handshakeTimeout = 5 * time.Second
)
