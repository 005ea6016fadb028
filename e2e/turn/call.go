package turn

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// pair is the selected candidate pair of a page.
type pair struct {
	Local    string `json:"local"`
	Remote   string `json:"remote"`
	Protocol string `json:"protocol"` // of the own relay: udp or tls
}

// relayed reports whether both candidates are relays of the server. A relay reaches nothing
// else: a browser calls the other one peer-reflexive if its check came before its signal.
func (p pair) relayed() bool {
	return p.Local == "relay" && (p.Remote == "relay" || p.Remote == "prflx")
}

// end is one side of a call.
type end struct {
	*browser
	page    string
	server  string // name in the URL
	options *pageOptions
}

// call is a camera page that sends video to a screen page, through a server.
type call struct{ camera, screen end }

// connect opens both pages and starts the camera. It returns when the screen shows moving
// video.
func (c *call) connect() error {
	if err := c.begin(); err != nil {
		return err
	}
	return c.picture()
}

// begin opens both pages and starts the camera.
func (c *call) begin() error {
	if err := c.screen.open("https://" + c.screen.server + "/receive.html"); err != nil {
		return err
	}
	link, err := c.screen.link()
	if err != nil {
		return err
	}
	link = strings.Replace(link, "//"+c.screen.server+"/", "//"+c.camera.server+"/", 1)
	if err := c.camera.open(link); err != nil {
		return err
	}
	return c.camera.do("start", c.camera.page, nil)
}

func (e end) open(url string) error {
	return e.run(request{Method: "open", Page: e.page, URL: url, Options: e.options}, nil)
}

func (e end) link() (link string, err error) {
	err = e.do("link", e.page, &link)
	return link, err
}

// picture waits until the screen decodes more frames.
func (c *call) picture() error { return c.screen.do("picture", c.screen.page, nil) }

// pairs returns the selected pairs of the camera and the screen.
func (c *call) pairs() (camera, screen pair, err error) {
	return camera, screen, errors.Join(c.camera.do("pair", c.camera.page, &camera), c.screen.do("pair", c.screen.page, &screen))
}

// close closes both pages. It returns the errors that the browsers have logged.
func (c *call) close() error {
	return errors.Join(c.camera.do("close", c.camera.page, nil), c.screen.do("close", c.screen.page, nil))
}

// frames returns the number of decoded frames.
func (c *call) frames() (int, error) {
	var state struct {
		Frames     int    `json:"frames"`
		Connection string `json:"connection"`
	}
	err := c.screen.do("state", c.screen.page, &state)
	return state.Frames, err
}

// resumed waits until the screen has decoded more frames than the few that can be buffered.
func (c *call) resumed() error {
	began := time.Now()
	first, err := c.frames()
	for err == nil {
		var now int
		if now, err = c.frames(); err == nil && now > first+10 {
			return nil
		}
		if time.Since(began) > browserTimeout {
			return fmt.Errorf("got %d frames after %v, want more than %d", now, browserTimeout, first+10)
		}
		time.Sleep(50 * time.Millisecond)
	}
	return err
}
