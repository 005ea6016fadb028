package config

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"inbox/inbox/redisstore"
)

// maxStoreCapacity is the maximum number of messages of one inbox in a store. A Lua
// script deletes all of them in one call.
const maxStoreCapacity = 10_000

// maxReplicas bounds -store-replicas; no deployment needs more.
const maxReplicas = 100

// resolveStore resolves the store options. No error repeats the address, which can
// contain a password.
func (r *resolver) resolveStore() (err error) {
	s := r.o.store
	if s.address == "" && s.file == "" {
		return r.storeRequired(map[string]bool{"store-ca": s.ca != "", "store-key-file": s.keyFile != "", "store-replicas": s.replicas != 0})
	}
	store := &Store{Replicas: int(s.replicas)}
	if store.Address, err = r.storeAddress(); err != nil {
		return err
	}
	switch {
	case r.o.inboxCapacity < 1 || r.o.inboxCapacity > maxStoreCapacity:
		return r.o.optionError("inbox-capacity", fmt.Errorf("must be from 1 to %d with -store", maxStoreCapacity))
	case s.keyFile == "" && len(r.c.Domains) > 0:
		return r.o.optionError("store-key-file", errors.New("is required with -domain and a store, to encrypt "+
			"the private keys of certificates; create it with: openssl rand -base64 32"))
	}
	if err := r.trustStoreCA(&store.Address); err != nil {
		return err
	}
	if s.keyFile != "" {
		if store.Key, err = readKey(s.keyFile); err != nil {
			return r.o.optionError("store-key-file", err)
		}
	}
	r.c.Store = store
	return nil
}

// storeRequired rejects the options that are given without a store.
func (r *resolver) storeRequired(given map[string]bool) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if given[name] {
			errs = append(errs, r.o.optionError(name, errors.New("requires -store or -store-file")))
		}
	}
	return errors.Join(errs...)
}

func (r *resolver) storeAddress() (redisstore.Address, error) {
	text, option := r.o.store.address, "store"
	if r.o.store.file != "" {
		if text != "" {
			return redisstore.Address{}, r.o.optionError("store-file", errors.New("conflicts with -store; remove one of the two"))
		}
		var err error
		if text, err = readSmallFile(r.o.store.file); err != nil {
			return redisstore.Address{}, r.o.optionError("store-file", err)
		}
		option = "store-file"
	}
	address, err := redisstore.ParseAddress(strings.TrimSpace(text))
	if err != nil {
		return redisstore.Address{}, r.o.secretError(option, fmt.Errorf("the address %w", err))
	}
	return address, nil
}

// trustStoreCA adds the certificates of -store-ca to the address.
func (r *resolver) trustStoreCA(address *redisstore.Address) error {
	if r.o.store.ca == "" {
		return nil
	}
	if !address.TLS() {
		return r.o.optionError("store-ca", errors.New("requires a store over TLS, such as rediss://host"))
	}
	text, err := readSmallFile(r.o.store.ca)
	if err == nil && !address.Trust([]byte(text)) {
		err = errors.New("the file contains no PEM certificate")
	}
	if err != nil {
		return r.o.optionError("store-ca", err)
	}
	return nil
}

// readKey reads a key of 32 bytes in base64 or hexadecimal.
func readKey(file string) ([]byte, error) {
	text, err := readSmallFile(file)
	if err != nil {
		return nil, err
	}
	text = strings.TrimSpace(text)
	key, err := hex.DecodeString(text)
	if err != nil {
		key, err = base64.StdEncoding.DecodeString(text)
	}
	if err != nil || len(key) != sha256.Size {
		return nil, errors.New("the file must contain 32 random bytes in base64; create it with: openssl " +
			"rand -base64 32")
	}
	return key, nil
}
