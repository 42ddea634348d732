"""QoS of inputs and outputs, and what is said when a publisher's does not fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    QoSCompatibility,
    QoSPolicyKind,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
)

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

RELIABILITY = {
    "best_effort": ReliabilityPolicy.BEST_EFFORT,
    "reliable": ReliabilityPolicy.RELIABLE,
}


def profile(reliability: str, depth: int, *, latched: bool = False) -> QoSProfile:
    """A keep-last profile; `latched` keeps the last message for subscribers that come later."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=RELIABILITY[reliability],
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


def on_incompatible(topic: str, error: Callable[[str], Any]) -> SubscriptionEventCallbacks:
    """Events of a subscription: a publisher that it cannot hear is named with the policy."""

    def incompatible(event: Any) -> None:
        policy = QoSPolicyKind(event.last_policy_kind).name.lower()
        error(
            f"a publisher on {topic} offers QoS that this node cannot take: {policy} differs "
            f"(seen {event.total_count} times); no image comes from it. Set this node's "
            "`reliability` to best_effort, or the publisher's to reliable."
        )

    return SubscriptionEventCallbacks(incompatible_qos=incompatible)


def unheard(publisher: QoSProfile, subscription: QoSProfile) -> str:
    """Why a subscription does not hear a publisher; empty where it does."""
    compatibility, reason = qos_check_compatible(publisher, subscription)
    if compatibility != QoSCompatibility.ERROR:
        return ""
    return f"{reason.removeprefix('ERROR: ').rstrip(';')}; see this node's `reliability`"
