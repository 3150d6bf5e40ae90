"""The section of alerts: where operators are told that something is the matter."""

from __future__ import annotations

from dataclasses import dataclass

from mechamap_rt.settings import addresses, kinds
from mechamap_rt.settings.option import option

_ADDRESS = kinds.matching(r"[^@\s<>,]{1,64}@[^@\s<>,]{1,255}", "must be the address of a mailbox")


@dataclass(frozen=True, slots=True)
class Alerting:
    """Webhook and mail; without either, alerts are in the log, in the API, and on the page of operators."""

    webhook_url: str = option(
        "ALERT_WEBHOOK_URL",
        addresses.url,
        "",
        "Where every alert that is raised or cleared is posted as JSON; unset for nowhere.",
    )
    webhook_secret: str = option(
        "ALERT_WEBHOOK_SECRET",
        kinds.secret,
        "",
        "With it, posts carry X-Signature-256: sha256=<HMAC of the body>; unset for no signature.",
        secret=True,
    )
    email_to: tuple[str, ...] = option(
        "ALERT_EMAIL_TO", kinds.comma_list(_ADDRESS), (), "Who gets a mail for every alert; comma list."
    )
    email_from: str = option(
        "ALERT_EMAIL_FROM", _ADDRESS, "", "Whom these mails come from; unset: mechamap at this host."
    )
    smtp_host: str = option("SMTP_HOST", kinds.text, "localhost", "The server that takes mails.")
    smtp_port: int = option("SMTP_PORT", addresses.port(), 25, "Its port.")
    smtp_user: str = option("SMTP_USER", kinds.text, "", "The account to log in with; unset for no login.")
    smtp_password: str = option("SMTP_PASSWORD", kinds.secret, "", "The password of that account.", secret=True)
    smtp_tls: bool = option(
        "SMTP_TLS", kinds.boolean, False, "Insist on STARTTLS; otherwise it is used when the server offers it."
    )
