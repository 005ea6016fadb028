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

// sample is the resource use of a server at one moment.
type sample struct{ memoryBytes, goroutines, openFiles float64 }

var goroutinesPattern = regexp.MustCompile(`(?m)^go_goroutines (\d+)`)

// measure reads memory and open files from the kernel and the number of goroutines from
// the server's metrics. Memory is anonymous, without pages of the program file.
func (s *service) measure() (sample, error) {
	pid := proc.ID(s.process.PID())
	memory, files := pid.AnonRSS(), pid.OpenFiles()
	if memory < 0 || files < 0 {
		return sample{}, errors.New("measure server: process has exited")
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
		return 0, fmt.Errorf("no go_goroutines in %s", url)
	}
	return strconv.ParseFloat(string(m[1]), 64)
}

// sampleSeries are the samples of one process, between two restarts.
type sampleSeries []sample

// median returns the median of one quantity.
func median(samples []sample, of func(sample) float64) float64 {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = of(s)
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// quantities must not grow by more than a quarter plus slack, which allows for noise.
var quantities = []struct {
	name  string
	of    func(sample) float64
	slack float64
}{
	{"memory", func(s sample) float64 { return s.memoryBytes }, 16 << 20},
	{"goroutines", func(s sample) float64 { return s.goroutines }, 30},
	{"open files", func(s sample) float64 { return s.openFiles }, 30},
}

// growth returns the quantities that grew from the first to the second samples.
func growth(when string, first, second []sample) (grown []string) {
	for _, q := range quantities {
		a, b := median(first, q.of), median(second, q.of)
		if b > a+a/4+q.slack {
			grown = append(grown, fmt.Sprintf("%s: %s grew from %.0f to %.0f", when, q.name, a, b))
		}
	}
	return grown
}

func (l sampleSeries) String() string {
	return fmt.Sprintf("memory %.1f MiB, %.0f goroutines, %.0f open files",
		median(l, quantities[0].of)/(1<<20), median(l, quantities[1].of), median(l, quantities[2].of))
}
