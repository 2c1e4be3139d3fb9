"""The error table: every code of Meta's that is known, and what it means for a send.

Owns the lines about access, limits, messages and templates, which a send meets in its answer or in a
``failed`` status, and the look-up over the whole table. The codes of other calls are in
``error_table_management.py``. Source: CLOUD_API.md 2, and CLOUD_API_2026.md 12.2, which stands where they
differ. The rules by which their classes became lines are in ``error_policy.py``.
"""

from __future__ import annotations

from whatsapp.error_policy import ErrorPolicy, Scope, brake, fail, park, retry
from whatsapp.error_table_management import MANAGEMENT

__all__ = ["TABLE", "policy_of"]

_MINUTE = 60.0
_HOUR = 3600.0

_DIRECT_SEND = (
    "Direct Send refuses this message: check its category and content, or use an approved template."
)

_ACCESS = (
    park(0, "authentication_failed", "Meta could not authenticate the app user: renew the access token."),
    park(
        3,
        "capability_missing",
        "The app lacks the capability or permission to send: grant it in the app's settings.",
    ),
    park(10, "permission_denied", "The app's permission to send is missing or was removed: grant it again."),
    park(
        33,
        "number_unknown",
        "The phone number id was deleted, does not exist or is not open to this token:"
        " check PHONE_NUMBER_ID and the token's assets.",
    ),
    park(102, "session_invalid", "Meta found no valid session behind the access token: renew the token."),
    park(
        104,
        "token_unproven",
        "The call carried no access token, or one without the proof that the app demands:"
        " check the token and the app's require-secret setting.",
    ),
    park(
        190, "token_invalid", "The access token has expired or was withdrawn: put a valid one in its place."
    ),
    park(
        200,
        "permission_missing",
        "The token is absent, lacks a permission, or its system user has no access to this WhatsApp account:"
        " grant whatsapp_business_messaging and assign the account.",
        to=299,
    ),
    park(
        368,
        "account_restricted",
        "Meta restricted or disabled the WhatsApp account for breaking its policy:"
        " see the business settings and appeal.",
    ),
    park(
        131005,
        "access_denied",
        "Meta denies access to this number: check the token's permissions and assets.",
    ),
    park(
        131031,
        "account_locked",
        "The WhatsApp account is locked, or data such as the PIN did not match:"
        " see the business settings at Meta.",
    ),
    park(
        131037,
        "display_name_unapproved",
        "This 555 number has no approved display name yet: have one approved at Meta;"
        " the gateway probes, and goes on by itself.",
    ),
    park(
        131042,
        "payment_problem",
        "Meta refuses to send because of a payment or billing problem: settle it in the business settings.",
    ),
    park(
        131045,
        "registration_broken",
        "The number is not registered properly: register it again;"
        " the gateway probes, and goes on by itself.",
    ),
)


def _app_limit(code: int, name: str, operator: str) -> ErrorPolicy:
    return brake(code, name, operator, scope=Scope.APP, after_s=5 * _MINUTE)


_LIMITS = (
    _app_limit(
        4,
        "app_call_limit",
        "The app has used up its calls for now: all its numbers wait; make fewer calls if this recurs.",
    ),
    _app_limit(
        17,
        "user_call_limit",
        "The Graph user behind the token has used up its calls for now: all numbers of the app wait.",
    ),
    _app_limit(
        32,
        "page_call_limit",
        "The page behind the token has used up its calls for now: all numbers of the app wait.",
    ),
    _app_limit(341, "app_action_limit", "The app has reached a limit of Graph's: all its numbers wait."),
    _app_limit(
        613,
        "custom_call_limit",
        "A call rate was exceeded, for instance by reading call permissions too often:"
        " all numbers of the app wait.",
    ),
    brake(
        80007,
        "account_call_limit",
        "The WhatsApp account has used up its management calls for now:"
        " its numbers wait; read templates and settings less often.",
        scope=Scope.ACCOUNT,
        after_s=5 * _MINUTE,
    ),
    brake(
        130429,
        "throughput_reached",
        "The number sends faster than Meta allows: the lane slows by itself;"
        " lower lane.rate if this goes on.",
        scope=Scope.LANE,
    ),
    retry(
        131048,
        "spam_limit",
        "Meta limits this number because people blocked or reported it:"
        " broadcasts pause for hours; send less, and only to people who want it.",
        scope=Scope.BROADCAST,
        after_s=4 * _HOUR,
        tries=5,
    ),
    brake(
        131056,
        "pair_rate",
        "Too many messages went to this recipient in a short time:"
        " only this recipient's messages wait, nothing to do.",
        scope=Scope.PAIR,
    ),
    brake(
        131057,
        "number_in_maintenance",
        "Meta is working on the number, mostly to raise its throughput:"
        " it goes on by itself in about a minute.",
        scope=Scope.NUMBER,
        after_s=_MINUTE,
    ),
    retry(
        131064,
        "misclassified_templates",
        "Meta limits this number because templates were filed under a wrong category:"
        " broadcasts pause until the limit lifts itself; correct the templates' categories.",
        scope=Scope.BROADCAST,
        after_s=4 * _HOUR,
        tries=5,
    ),
)

_FAULTS_OF_META = (
    retry(
        1,
        "unknown_api_error",
        "Meta reports an invalid request or a fault of its own, without saying which:"
        " it is tried a few times; check the message if it ends here.",
        doubt=True,
        tries=3,
    ),
    retry(
        2,
        "service_overloaded",
        "Meta's service is down or overloaded: it is tried again by itself.",
        doubt=True,
    ),
    retry(
        131000,
        "unknown_failure",
        "Meta failed for an unknown reason and the message may have gone out all the same:"
        " it is tried a few times; report the trace id to Meta if it persists.",
        doubt=True,
        tries=3,
    ),
    retry(
        131016,
        "service_unavailable",
        "A service of Meta's is unavailable for a moment: it is tried again by itself.",
        doubt=True,
    ),
    retry(
        133004,
        "server_unavailable",
        "A server of Meta's is unavailable: it is tried again by itself.",
        doubt=True,
    ),
)

_MESSAGES = (
    fail(
        100,
        "invalid_parameter",
        "Meta does not know a parameter, or its value is too long, or the call does not take this kind of"
        " message: correct the message and send it as a new one.",
    ),
    fail(
        506, "duplicate_post", "Meta takes this for a repetition of what was just posted: change the content."
    ),
    fail(
        130403,
        "recipient_blocked_by_us",
        "Our business has blocked this user: lift the block before sending again.",
    ),
    fail(
        130472,
        "recipient_in_experiment",
        "Meta keeps this user out of marketing for an experiment:"
        " this message cannot reach them, do not repeat it.",
    ),
    fail(
        130497,
        "country_not_allowed",
        "The account may not message people in this country: leave such recipients out.",
    ),
    fail(
        131008,
        "parameter_missing",
        "A required parameter is missing: complete the message and send it as a new one.",
    ),
    fail(
        131009,
        "parameter_value_invalid",
        "A parameter has a value that Meta does not take:"
        " correct it, or on the marketing API wait ten minutes for a new template to sync.",
    ),
    fail(
        131021, "recipient_is_sender", "The recipient is the sending number itself: choose another recipient."
    ),
    fail(
        131026,
        "undeliverable",
        "The recipient is not on WhatsApp, uses too old a version or has not accepted its terms:"
        " reach them another way.",
    ),
    fail(
        131030,
        "recipient_not_on_test_list",
        "A test number sends only to its list of allowed recipients:"
        " add this one at Meta, or use a real number.",
    ),
    fail(
        131047,
        "window_closed",
        "The recipient has not written within the last 24 hours:"
        " only a template reaches them; give a fallback template.",
    ),
    fail(
        131049,
        "marketing_cap",
        "Meta withheld the message because this user gets enough marketing already:"
        " do not try again for at least 24 hours.",
    ),
    fail(
        131050,
        "marketing_stopped",
        "The user has stopped marketing from this business:"
        " take them off marketing lists until they resume it.",
    ),
    fail(131051, "type_unsupported", "Meta does not support this type of message here: send another type."),
    fail(
        131053,
        "media_unusable",
        "Meta could not fetch or use our media: check that the link works, and its type and size.",
    ),
    fail(
        131055,
        "method_not_allowed",
        "The marketing API takes marketing templates only: send this message the ordinary way.",
    ),
    fail(
        131062,
        "user_id_not_supported",
        "This message cannot be addressed by user id (one-time codes cannot): send it to the phone number.",
    ),
    fail(
        131063,
        "marketing_disabled_here",
        "Marketing templates are switched off on this endpoint for the account:"
        " use the marketing API, or switch them on.",
        scope=Scope.TEMPLATE,
    ),
    fail(
        135000,
        "parameters_rejected",
        "Meta rejects the message's parameters without naming one: check them all.",
    ),
    fail(
        137000,
        "identity_changed",
        "The recipient's identity key is not the one that was given:"
        " verify the person anew, then send with the new hash.",
    ),
)

_TEMPLATES = (
    fail(
        132000,
        "template_parameter_count",
        "The number of parameters is not the one that the template has: give as many as it has placeholders.",
    ),
    fail(
        132001,
        "template_missing",
        "The template does not exist in this language or is not approved:"
        " check its name and language, or wait for approval.",
        scope=Scope.TEMPLATE,
    ),
    fail(
        132005,
        "template_text_too_long",
        "The template's text is too long once filled in: shorten the parameters.",
    ),
    fail(
        132007,
        "template_policy",
        "The template's content breaks a policy of WhatsApp: edit the template and have it approved again.",
        scope=Scope.TEMPLATE,
    ),
    fail(132008, "template_parameter_value", "A parameter of the template has an invalid value: correct it."),
    fail(
        132012,
        "template_parameter_format",
        "A parameter is not of the kind that the template expects there: compare them with the template.",
    ),
    fail(
        132015,
        "template_paused",
        "Meta paused the template for low quality, or dropped it while pacing:"
        " edit it, or wait until the pause ends.",
        scope=Scope.TEMPLATE,
    ),
    fail(
        132016,
        "template_disabled",
        "Meta has disabled the template for good after repeated pauses: make a new one with other content.",
        scope=Scope.TEMPLATE,
    ),
    fail(
        132018,
        "template_invalid",
        "The parameters do not pass the template's validation: compare them with the template's definition.",
    ),
    fail(
        132068,
        "flow_blocked",
        "The flow in the message is blocked: correct it in the flow manager.",
        scope=Scope.TEMPLATE,
    ),
    retry(
        132069,
        "flow_throttled",
        "The flow is throttled to 10 messages an hour for its errors:"
        " its messages wait; put the flow's endpoint right.",
        scope=Scope.TEMPLATE,
        after_s=_HOUR,
        tries=5,
    ),
    fail(
        134100,
        "not_marketing",
        "The marketing API was given a template of another category: send it the ordinary way.",
    ),
    retry(
        134101,
        "template_syncing",
        "The template is still being synced to the marketing API:"
        " its messages are tried again in ten minutes.",
        scope=Scope.TEMPLATE,
        after_s=10 * _MINUTE,
        tries=3,
    ),
    fail(
        134102,
        "template_unavailable",
        "The template cannot be used on the marketing API:"
        " see its state at Meta, or send it the ordinary way.",
        scope=Scope.TEMPLATE,
    ),
    *(fail(code, "direct_send_refused", _DIRECT_SEND) for code in (139200, 2388318, 2388330)),
)

TABLE: tuple[ErrorPolicy, ...] = (*_ACCESS, *_LIMITS, *_FAULTS_OF_META, *_MESSAGES, *_TEMPLATES, *MANAGEMENT)
"""Every line. No code is in two of them."""

_BY_CODE = {code: policy for policy in TABLE for code in policy.codes}


def policy_of(code: int) -> ErrorPolicy | None:
    """The line about a code of Meta's; None for one that the table does not know."""
    return _BY_CODE.get(code)
