"""An arm that obeys the orders of the server's operator."""

from collections.abc import Callable
from dataclasses import dataclass

from robot_client.arms.arm import Arm
from robot_client.inquiry import PatienceLostError
from robot_client.protocol import Ack, Order
from robot_client.records import Event


@dataclass(frozen=True, eq=False)
class OrderedArm:
    """What `Obedience` commands during a run; the arm is told before anything is written down.

    Attributes:
        arm: Connected.
        forget: Makes the plan under way void.
        on_event: Told what happens.
    """

    arm: Arm
    forget: Callable[[], None]
    on_event: Callable[[Event], None]

    def obey(self, order: Order) -> None:
        """Hold, stop, or let go on."""
        if order.TYPE == "pause":
            self.arm.hold()
        elif order.TYPE == "stop":
            self.arm.stop()
        self.forget()
        self.on_event(Event(order.TYPE, order.reason or "ordered by the server's operator"))

    def hold(self) -> None:
        """Hold, for an order that was missed."""
        self.arm.hold()
        self.forget()

    def end(self, order: Order) -> None:
        """End the run after a stop.

        Raises:
            PatienceLostError: Always.
        """
        raise PatienceLostError(f"the server's operator ordered a stop: {order.reason}")

    def is_moving(self) -> bool:
        """Whether the arm still moves noticeably, or the gripper has not finished."""
        return self.arm.is_moving() or self.arm.is_gripper_busy()

    def note(self, ack: Ack) -> None:
        """Write down what the server was told."""
        after_ms = 0.0 if ack.applied_ms is None else ack.applied_ms
        text = f"order {ack.order}: the arm is {ack.arm}, {after_ms:.0f} ms after it came"
        values = {"order": ack.order, "arm": ack.arm, "applied_ms": ack.applied_ms}
        self.on_event(Event("acknowledged", text, {**values, "t_applied": ack.t_applied}))
