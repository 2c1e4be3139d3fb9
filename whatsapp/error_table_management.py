"""The part of the error table about everything but sending: inbound, groups, registration, calls, accounts.

Owns the lines that a send should never meet, so that one that comes back for a send all the same is
understood. Source and rules as in ``error_table.py``, which joins the two parts.
"""

from __future__ import annotations

from whatsapp.error_policy import ErrorPolicy, Scope, brake, fail, park, retry

__all__ = ["MANAGEMENT"]

_MINUTE = 60.0
_HOUR = 3600.0

_MIGRATION = "The number's migration is refused or unfinished: see the details, and finish it at Meta."
_CALL = "Meta refuses this call operation: read the details and correct it."
_GROUP = "Meta refuses this group operation: read the details and correct it."

_INBOUND = (
    fail(
        131052,
        "inbound_media_lost",
        "Meta could not download what the user sent, or it is over 100 MB:"
        " ask the user to send it again, smaller.",
    ),
    fail(
        131060, "inbound_unavailable", "An inbound message is not available: ask the user to send it again."
    ),
    fail(
        131059,
        "cursor_invalid",
        "A paging cursor has expired or is wrong: begin the listing from its first page.",
    ),
)

_GROUPS = (
    fail(
        131020,
        "group_unusable",
        "The group cannot be sent to, for instance because it has one member: let others join.",
    ),
    fail(
        131041,
        "group_unknown",
        "The group does not exist or our number is no member of it: check the group id.",
    ),
    fail(
        131201,
        "group_partial_success",
        "Only a part of a group operation was done: read the lists in the answer.",
    ),
    fail(
        131202,
        "group_request_duplicate",
        "The same group operation is under way already: wait for its result.",
    ),
    fail(131203, "group_operation_refused", _GROUP),
    fail(131204, "group_too_many", "The group operation names too many people or groups: split it."),
    fail(131205, "group_operation_refused", _GROUP, to=131206),
    fail(
        131207,
        "group_suspended",
        "Meta has suspended the group: see the group's state at Meta before sending to it.",
    ),
    retry(
        131208,
        "group_rate",
        "Too many group operations in a short time: this message is tried again in some minutes.",
        after_s=5 * _MINUTE,
    ),
    fail(131209, "group_picture_not_square", "The group's picture is not square: crop it."),
    fail(131210, "group_picture_too_small", "The group's picture is too small: use a larger one."),
    retry(
        131211,
        "group_creation_limit",
        "The limit of new groups is reached for now: create the next one later.",
        after_s=_HOUR,
        tries=3,
    ),
    fail(131212, "group_not_a_member", "This person is no member of the group: invite them first."),
    fail(
        131213,
        "group_join_request_unknown",
        "There is no such request to join the group: list the requests anew.",
    ),
    retry(
        131214,
        "group_creation_paused",
        "Meta has paused the creation of groups for this number: create the group later.",
        after_s=_HOUR,
        tries=3,
    ),
    fail(
        131215, "group_not_eligible", "This number may not use groups: see Meta's conditions and apply there."
    ),
)

_REGISTRATION = (
    park(
        133000,
        "deregistration_failed",
        "An earlier deregistration of the number failed: deregister and register it again.",
    ),
    park(133005, "pin_wrong", "The two-step PIN is wrong: register the number with the right PIN."),
    park(
        133006,
        "number_unverified",
        "The number must be verified before it is registered: request a code and verify it.",
    ),
    brake(
        133008,
        "pin_guessed_too_often",
        "The two-step PIN was entered wrongly too often:"
        " wait as long as the details say, then register the number.",
        scope=Scope.NUMBER,
        after_s=_HOUR,
    ),
    brake(
        133009,
        "pin_guessed_too_fast",
        "The two-step PIN was entered too fast in a row:"
        " wait as long as the details say, then register the number.",
        scope=Scope.NUMBER,
        after_s=10 * _MINUTE,
    ),
    park(133010, "number_not_registered", "The number is not registered on the Cloud API: register it."),
    brake(
        133015,
        "number_just_deleted",
        "The number was deleted less than five minutes ago: register it again after that time.",
        scope=Scope.NUMBER,
        after_s=5 * _MINUTE,
    ),
    # What is blocked is to register, for 72 hours (CLOUD_API.md 2): a number that is registered sends on.
    park(
        133016,
        "registration_limit",
        "The number was registered and deregistered 10 times within 72 hours, and cannot be for 72 more:"
        " register it then; the gateway probes, and goes on by itself where it is registered.",
    ),
    retry(
        136024,
        "code_request_refused",
        "Meta refuses to send a verification code for now: request it again later.",
        after_s=10 * _MINUTE,
        tries=3,
    ),
    *(park(code, "number_migration", _MIGRATION) for code in (2388001, 2388012, 2388091, 2388093, 2388103)),
    brake(
        2494100,
        "number_under_maintenance",
        "Meta has the number in maintenance: it goes on by itself in some minutes.",
        scope=Scope.NUMBER,
        after_s=5 * _MINUTE,
    ),
    fail(
        1752041, "onboarding_duplicate", "This business was invited to onboard already: use that invitation."
    ),
    fail(
        2593107,
        "history_sync_used_up",
        "The app's contacts or history can be synced once only: onboard it anew to repeat it.",
    ),
    fail(
        2593108,
        "history_sync_too_late",
        "The sync must be asked for within 24 hours of onboarding: onboard it anew.",
    ),
    fail(
        2593109,
        "history_sync_refused",
        "The owner of the Business app did not agree to share the history: ask them.",
    ),
)

_CALLS = (
    fail(
        131044,
        "calling_payment_problem",
        "Meta refuses calls because of a payment problem: settle it in the business settings.",
    ),
    fail(
        138000,
        "calling_disabled",
        "Calling is not enabled for this number: switch it on in the number's settings.",
    ),
    retry(
        138001,
        "callee_unavailable",
        "The user cannot be called at present: try later.",
        after_s=5 * _MINUTE,
        tries=3,
    ),
    retry(
        138002,
        "concurrent_calls",
        "The number has 1,000 calls at once, which is the limit: it is tried again.",
    ),
    fail(138003, "call_duplicate", "There is a call with this user already: use that one."),
    retry(
        138004,
        "call_connect_failed",
        "The call could not be connected: try later.",
        after_s=5 * _MINUTE,
        tries=3,
    ),
    retry(
        138005, "call_rate", "Calls were started too fast: it is tried again in a minute.", after_s=_MINUTE
    ),
    fail(
        138006,
        "call_not_permitted",
        "The user has not permitted calls from this number: ask for the permission first.",
    ),
    retry(
        138007, "call_timed_out", "The call was not set up in time: try later.", after_s=5 * _MINUTE, tries=3
    ),
    fail(138008, "call_refused", _CALL),
    fail(
        138009,
        "call_permission_limit",
        "This user was asked for permission to call as often as a day allows: ask again another day.",
    ),
    fail(138010, "call_refused", _CALL, to=138011),
    fail(
        138012, "call_limit_of_user", "This user was called as often as a day allows: call again another day."
    ),
    retry(
        138013,
        "call_permission_reads",
        "Call permissions were read too often: read them less often.",
        after_s=5 * _MINUTE,
        tries=3,
    ),
    fail(138014, "call_refused", _CALL, to=138017),
    fail(
        138018,
        "calling_impossible",
        "Calling cannot be enabled for this number: see Meta's conditions for calls.",
    ),
)

_ACCOUNT = (
    fail(
        134011,
        "payments_terms",
        "The terms of WhatsApp payments are not accepted: accept them at Meta, then send it again.",
    ),
    fail(
        139100,
        "block_list_partial",
        "Only some users were blocked or unblocked: read the lists in the answer.",
    ),
    fail(139101, "block_list_full", "The block list holds its 64,000 users: unblock some first."),
    retry(
        139102,
        "block_list_busy",
        "The block list was changed by somebody else at the same time: it is tried again.",
    ),
    retry(139103, "block_list_fault", "The block list failed inside Meta: it is tried again."),
    fail(147001, "username_taken", "This username is taken: choose another."),
    fail(
        147002,
        "username_not_eligible",
        "The business may not have this username: choose another, or see the conditions.",
    ),
    fail(
        147003,
        "username_facebook_unlinked",
        "The Facebook page is not linked: link it, then claim the username.",
    ),
    fail(
        147004,
        "username_instagram_unlinked",
        "The Instagram account is not linked: link it, then claim the username.",
    ),
    fail(
        147005,
        "username_transfer_needed",
        "The username has to be transferred: ask for it with the transfer.",
    ),
    fail(2494164, "signup_unknown", "There is no such sign-up: check its id."),
    retry(
        2494165,
        "signup_unavailable",
        "The sign-up service is unavailable: it is tried again in some minutes.",
        after_s=5 * _MINUTE,
        tries=3,
    ),
    fail(2494166, "signup_placeholder_unknown", "The sign-up's text has an unknown placeholder: remove it."),
    fail(2494167, "signup_value_missing", "A value for the sign-up's text is missing: add it."),
    fail(2494168, "signup_terms", "The terms of sign-ups are not accepted: accept them at Meta."),
    fail(
        2494176, "signup_terms_already_accepted", "The terms of sign-ups are accepted already: nothing to do."
    ),
    fail(2494177, "signup_url_not_allowed", "The sign-up's address is not allowed: use another."),
    fail(
        2494179, "signup_url_scheme", "The sign-up's address has a scheme that is not allowed: use another."
    ),
)

_MAKING = (
    fail(
        139000,
        "flow_integrity",
        "Meta has blocked the flow for its content or the account's standing: see the flow manager.",
    ),
    fail(139001, "flow_update_failed", "The flow could not be updated: read the details."),
    fail(139002, "flow_publish_failed", "The flow could not be published: correct its errors first."),
    fail(
        139003,
        "flow_deprecate_failed",
        "The flow could not be deprecated: see its state in the flow manager.",
    ),
    fail(139004, "flow_delete_failed", "The flow could not be deleted: read the details."),
    fail(
        200005,
        "insights_unavailable",
        "Template insights are not available: see the account's settings.",
        to=200007,
    ),
    fail(
        2388019,
        "template_count",
        "The account has as many templates as it may: delete some, or have the business verified.",
    ),
    fail(
        2388039,
        "template_not_editable",
        "The template cannot be edited in its present status: wait for the review.",
    ),
    fail(2388040, "template_field_too_long", "A field of the template is too long: shorten it."),
    fail(2388047, "template_header_invalid", "The template's header is not allowed as it is: correct it."),
    fail(2388072, "template_body_invalid", "The template's body is not allowed as it is: correct it."),
    fail(2388073, "template_footer_invalid", "The template's footer is not allowed as it is: correct it."),
    fail(
        2388293,
        "template_too_many_variables",
        "The template has too many variables for its text: lengthen the text.",
    ),
    fail(
        2388299,
        "template_variable_at_edge",
        "A variable stands at the start or end of the template: put text around it.",
    ),
)

MANAGEMENT: tuple[ErrorPolicy, ...] = (*_INBOUND, *_GROUPS, *_REGISTRATION, *_CALLS, *_ACCOUNT, *_MAKING)
