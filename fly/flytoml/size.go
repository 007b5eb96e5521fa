package flytoml

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Bases of sizes: memory is counted in binary megabytes, volumes in decimal
// gigabytes.
const (
	memoryBase, memoryUnit = 1024, 1 << 20
	volumeBase, volumeUnit = 1000, 1_000_000_000
)

// parseSize parses "512", "512mb" or "1.5 GiB" and returns a whole number of
// units, rounded down.
func parseSize(s string, base, unit float64) (int, error) {
	if n, err := strconv.Atoi(s); err == nil {
		if n < 0 || n > math.MaxInt32 {
			return 0, fmt.Errorf("%d is out of range", n)
		}
		return n, nil
	}
	digits := strings.TrimRight(s, "kKmMgGtTpPiIbB ")
	n, err := strconv.ParseFloat(digits, 64)
	suffix := strings.ToLower(strings.TrimSpace(s[len(digits):]))
	power := strings.Index("bkmgtp", suffix[:min(1, len(suffix))])
	rest := suffix[min(1, len(suffix)):]
	if suffix == "" || strings.Trim(digits, "0123456789.") != "" || power == 0 && rest != "" || rest != "" && rest != "b" && rest != "ib" {
		power = -1
	}
	if err != nil || power < 0 {
		return 0, fmt.Errorf("%.40q is not a size; write it like \"512mb\" or \"10gb\"", s)
	}
	size := math.Floor(n * math.Pow(base, float64(power)) / unit)
	if size > math.MaxInt32 {
		return 0, fmt.Errorf("%.40q is out of range", s)
	}
	return int(size), nil
}
