//go:build !unix

package doctor

type serviceUser struct{ uid uint32 }

func findServiceUser(string) (serviceUser, bool) { return serviceUser{}, false }

func (serviceUser) obstacle(string) string { return "" }
