package inbox

import (
	"net/http"

	"inbox/inbox/ice"
)

// turnOtherOrigin is why pages of a site get no TURN that only AnyOrigin lets in: every site
// could use the relay through its visitors.
const turnOtherOrigin = "other-origin"

// getICE responds with the RTCConfiguration. Servers with credentials are for clients that
// prove to own a mailbox. Without such servers it ignores the client's credentials.
func (h *Handler) getICE(w http.ResponseWriter, r *http.Request) error {
	owner, err := h.iceOwner(r)
	if err != nil {
		return err
	}
	servers, withheld := h.ownServers(r, owner)
	if err := h.admitRelay(r, owner); err != nil {
		return err
	}
	answer := ice.Configuration{ICEServers: ice.ForClient(servers, h.iceServers, owner != ""), TURN: withheld}
	return answer.Write(w)
}

// ownServers returns the STUN and TURN servers of this server, and why an owner gets no TURN.
func (h *Handler) ownServers(r *http.Request, owner string) (servers []ice.Server, withheld string) {
	if h.turn == nil {
		return nil, ""
	}
	if owner == "" || h.origins.Trusts(r) {
		return h.turn(r, owner)
	}
	servers, _ = h.turn(r, "")
	return servers, turnOtherOrigin
}

// iceOwner returns the owner if the request has credentials and they matter. It claims a
// free name.
func (h *Handler) iceOwner(r *http.Request) (owner string, err error) {
	if !h.iceAuth || len(r.Header["Authorization"]) == 0 {
		return "", nil
	}
	name, key, err := h.credentials(r)
	if err != nil {
		return "", err
	}
	if _, err := h.open(r, name, key); err != nil {
		return "", err
	}
	return ownerOf(name, key), nil
}

// admitRelay refuses an owner who cannot have credentials of a relay. They are made before: if the
// invitation ends meanwhile, those that were made after the others were revoked reach nobody.
func (h *Handler) admitRelay(r *http.Request, owner string) error {
	if h.access == nil || owner == "" {
		return nil
	}
	return h.access.AdmitRelay(tokenOf(r), nameOf(owner))
}

// ownerOf identifies the owner of a name, also in a later claim.
func ownerOf(name string, key Key) string { return string(key[:]) + name }

func nameOf(owner string) string { return owner[len(Key{}):] }
