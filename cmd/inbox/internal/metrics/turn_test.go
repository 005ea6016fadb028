package metrics

import (
	"regexp"
	"strings"
	"testing"

	"inbox/turn"
)

// collectTURNText returns the metrics of a state and a socket.
func collectTURNText(s turn.State, socket func() TURNSocket) string {
	return exposition(CollectTURN(func() turn.State { return s }, socket))
}

func TestTURNMetrics(t *testing.T) {
	text := collectTURNText(turn.State{
		UDP:     turn.TransportState{Allocations: 1, Allocated: 2, RelayedPackets: 3, RelayedBytes: 4},
		TLS:     turn.TransportState{Allocations: 5, Allocated: 6, RelayedPackets: 7, RelayedBytes: 8},
		Refused: map[string]int64{"expired": 9}, Dropped: map[string]int64{"queue-full": 10},
		Unauthenticated: 11, Withheld: 12, LibraryErrors: 13, Streams: 14, LongestQueueBytes: 15, MonthBytes: 16, MonthLimit: 17,
	}, func() TURNSocket { return TURNSocket{BufferBytes: 18, Dropped: 19, DropsKnown: true} })
	want := []string{
		`allocations{transport="udp"} 1`, `allocations_opened_total{transport="udp"} 2`,
		`relayed_packets_total{transport="udp"} 3`, `relayed_bytes_total{transport="udp"} 4`,
		`allocations{transport="tls"} 5`, `allocations_opened_total{transport="tls"} 6`,
		`relayed_packets_total{transport="tls"} 7`, `relayed_bytes_total{transport="tls"} 8`,
		`refused_total{reason="expired"} 9`, `dropped_total{reason="queue-full"} 10`,
		`unauthenticated_responses_total 11`, `withheld_responses_total 12`, `library_errors_total 13`,
		`streams_open 14`, `longest_queue_bytes 15`, `month_bytes 16`, `month_bytes_limit 17`,
		`receive_buffer_bytes 18`, `receive_dropped_packets_total 19`,
	}
	for _, series := range want {
		if !strings.Contains(text, "\ninbox_turn_"+series+"\n") {
			t.Errorf("no inbox_turn_%s in\n%s", series, text)
		}
	}
	if got := len(regexp.MustCompile(`(?m)^inbox_`).FindAllString(text, -1)); got != len(want) {
		t.Errorf("got %d series, want %d", got, len(want))
	}
}

func noSocket() TURNSocket { return TURNSocket{} }

// TestTURNMetricsOfUnknownValues checks that what is off or unknown is absent.
func TestTURNMetricsOfUnknownValues(t *testing.T) {
	text := collectTURNText(turn.State{}, noSocket)
	for _, absent := range []string{"month_bytes_limit", "receive_buffer_bytes", "receive_dropped_packets_total"} {
		if strings.Contains(text, absent) {
			t.Errorf("got %s in\n%s", absent, text)
		}
	}
}

// TestTURNMetricsLabels checks that no label identifies a client.
func TestTURNMetricsLabels(t *testing.T) {
	s, err := turn.New(turn.Config{Secret: make([]byte, 32)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	text := collectTURNText(s.State(), noSocket)
	for _, label := range regexp.MustCompile(`([a-z_]+)="`).FindAllStringSubmatch(text, -1) {
		if label[1] != "transport" && label[1] != "reason" {
			t.Errorf("got a label %s", label[1])
		}
	}
	if n := strings.Count(text, "reason="); n != 30 {
		t.Errorf("got %d reasons, want 14 of refusals and 16 of dropped messages", n)
	}
}
