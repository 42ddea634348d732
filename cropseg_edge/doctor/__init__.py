"""What this machine has, whether it works, and what to do: a system goes in, findings come out."""

from cropseg_edge.doctor.examine import broken, examine
from cropseg_edge.doctor.finding import Finding, Status
from cropseg_edge.doctor.system import System

__all__ = ["Finding", "Status", "System", "broken", "examine"]
