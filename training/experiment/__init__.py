"""The paper's claim in small, on simulated fields: labels from depth against labels by hand."""
