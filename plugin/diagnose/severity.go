package diagnose

import "fmt"

// Severity is how bad a finding is.
type Severity string

// The severities, from worst to best.
const (
	// Error: connections fail or go wrong.
	Error Severity = "error"
	// Warning: some may, or the state is not what the API asks for without a connection failing now.
	Warning Severity = "warning"
	// Info: worth knowing.
	Info Severity = "info"
)

// ParseSeverity reads a severity.
func ParseSeverity(s string) (Severity, error) {
	switch v := Severity(s); v {
	case Error, Warning, Info:
		return v, nil
	}
	return "", fmt.Errorf("%q is no severity: use error, warning or info", s)
}

func (s Severity) rank() int {
	switch s {
	case Error:
		return 3
	case Warning:
		return 2
	case Info:
		return 1
	}
	return 0
}

// AtLeast reports whether s is as bad as t or worse.
func (s Severity) AtLeast(t Severity) bool { return s.rank() >= t.rank() }
