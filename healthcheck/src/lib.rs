//! Can an endpoint take traffic: probes, verdicts, schedule.
