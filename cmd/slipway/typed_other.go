//go:build !linux && !darwin

package main

import "errors"

// dropTyped discards unread input of a terminal; it is not implemented here.
func dropTyped(int) error { return nil }

// hideTyped is not implemented here, so that nothing secret is shown.
func hideTyped(int) (show func(), err error) {
	return nil, errors.New("slipway cannot hide what is typed on this system")
}
