package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// printTable prints a line for each target. Ratios compare adjacent rounds: the median
// counts, and the interquartile range shows the noise.
func printTable(out io.Writer, results []result) error {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\tmessages/s\tp50\tp90\tp99\tp99.9\tCPU/message\t× bare\t(middle half)\t")
	for _, r := range results {
		slices.Sort(r.latencies)
		fmt.Fprintf(w, "%s\t%.0f\t", r.name, r.throughput())
		for _, q := range []float64{0.5, 0.9, 0.99, 0.999} {
			fmt.Fprintf(w, "%v\t", quantile(r.latencies, q).Round(time.Microsecond))
		}
		fmt.Fprintf(w, "%s\t%s\t\n", r.cpuText(), ratioText(r, results))
	}
	return w.Flush()
}

func (r result) cpuText() string {
	if r.pid == 0 {
		return "unknown"
	}
	return fmt.Sprintf("%.1f µs", float64(r.cpu().Nanoseconds())/1000)
}

func ratioText(r result, results []result) string {
	if len(results) < 2 || r.name == results[1].name {
		return "\t"
	}
	ratios := r.ratios(results[1])
	return fmt.Sprintf("%.2f\t(%.2f-%.2f)", quantile(ratios, 0.5), quantile(ratios, 0.25), quantile(ratios, 0.75))
}

// checkRatio compares the first target, the server, with the second, the bare handler.
// A limit of zero disables the check.
func checkRatio(results []result, limit float64) error {
	if limit == 0 {
		return nil
	}
	if got := quantile(results[0].ratios(results[1]), 0.5); got > limit {
		return fmt.Errorf("got %.2f times the bare handler's CPU time per message, want at most %.2f", got, limit)
	}
	return nil
}

func (r result) throughput() float64 {
	var took time.Duration
	for _, x := range r.rounds {
		took += x.took
	}
	return float64(len(r.latencies)) / took.Seconds()
}

// cpu returns the median CPU time per message.
func (r result) cpu() time.Duration {
	var all []time.Duration
	for _, x := range r.rounds {
		all = append(all, x.cpu)
	}
	slices.Sort(all)
	return quantile(all, 0.5)
}

// ratios returns the ratios of CPU time per message round by round, sorted.
func (r result) ratios(bare result) []float64 {
	var all []float64
	for i := range min(len(r.rounds), len(bare.rounds)) {
		all = append(all, float64(r.rounds[i].cpu)/float64(bare.rounds[i].cpu))
	}
	slices.Sort(all)
	return all
}

// quantile requires at least one value, in ascending order.
func quantile[T any](sorted []T, q float64) T {
	return sorted[int(q*float64(len(sorted)-1)+0.5)]
}
