package soak

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"time"

	"inbox/e2e/proc"
)

// sample is what a server holds of the machine at one moment.
type sample struct{ memoryBytes, goroutines, openFiles float64 }

var goroutinesPattern = regexp.MustCompile(`(?m)^go_goroutines (\d+)`)

// measure asks the kernel for memory and open files, and the server for the
// rest. Memory is that of the process alone, without the program's file.
func (s *service) measure() (sample, error) {
	pid := proc.ID(s.process.PID())
	memory, files := pid.AnonRSS(), pid.OpenFiles()
	if memory < 0 || files < 0 {
		return sample{}, errors.New("measure the server: it is gone")
	}
	goroutines, err := s.fetchGoroutines()
	return sample{float64(memory), goroutines, float64(files)}, err
}

func (s *service) fetchGoroutines() (float64, error) {
	s.mu.Lock()
	url := "http://" + s.metricsAddr + "/metrics"
	s.mu.Unlock()
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return 0, err
	}
	m := goroutinesPattern.FindSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("%s has no go_goroutines", url)
	}
	return strconv.ParseFloat(string(m[1]), 64)
}

// sampleSeries is what was measured between two restarts.
type sampleSeries []sample

// median is that of one quantity over a part of the samples.
func median(samples []sample, of func(sample) float64) float64 {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = of(s)
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// quantities that must not grow, and by how much noise they may.
var quantities = []struct {
	name  string
	of    func(sample) float64
	slack float64 // beside a quarter
}{
	{"memory", func(s sample) float64 { return s.memoryBytes }, 16 << 20},
	{"goroutines", func(s sample) float64 { return s.goroutines }, 30},
	{"open files", func(s sample) float64 { return s.openFiles }, 30},
}

// growth says which quantities are larger in the second than in the first.
func growth(when string, first, second []sample) (grown []string) {
	for _, q := range quantities {
		a, b := median(first, q.of), median(second, q.of)
		if b > a+a/4+q.slack {
			grown = append(grown, fmt.Sprintf("%s: %s went from %.0f to %.0f", when, q.name, a, b))
		}
	}
	return grown
}

func (l sampleSeries) String() string {
	return fmt.Sprintf("memory %.1f MiB, %.0f goroutines, %.0f open files",
		median(l, quantities[0].of)/(1<<20), median(l, quantities[1].of), median(l, quantities[2].of))
}
