"""The conformance statement, in the order of PS3.2 Annex N; its tables come from the code that negotiates.

What is said in words stands here; a status or a service that is new and not told here fails a test.
"""

from collections.abc import Mapping

from config.routes import MOST_ASSOCIATIONS
from config.settings import Settings
from dicom_node.commands.conformance_tables import (
    created_objects,
    offered,
    other_classes,
    private_codes,
    query_attributes,
    requests,
    sent_back,
    statuses,
    stored_classes,
    table,
    transfer_syntaxes,
)
from dicom_node.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.network.commitment import MOST_ITEMS, FailureReason
from dicom_node.network.dicomweb.metadata import LARGEST_INLINE
from dicom_node.network.dicomweb.search import MOST
from dicom_node.network.procedure_step import AT_CREATION, AT_THE_END, FIXED
from dicom_node.network.sender import STORED_WITH_WARNING
from dicom_node.network.server import IDLE_SECONDS
from dicom_node.network.statuses import Status
from dicom_node.network.tls import CIPHER_SUITES, HANDSHAKE_SECONDS
from dicom_node.objects.concepts import SCHEME

#: By service, the statuses that the node answers with.
ANSWERS: Mapping[str, Mapping[Status, str]] = {
    "C-STORE": {
        Status.SUCCESS: "The object is on the disk and its row is committed. So is one that was there already; other "
        "content under a UID that is known is kept aside and reported, and goes no further.",
        Status.OUT_OF_RESOURCES: "The disk is nearly full or the database is away: send it again later. Or it is "
        "larger than `max_object_mb`.",
        Status.MISMATCH: "The data set is another SOP instance than the request's.",
        Status.CANNOT_UNDERSTAND: "The data set cannot be parsed, or lacks a UID that identifies it.",
        Status.SOP_CLASS_NOT_SUPPORTED: "The request is of another SOP class than its presentation context.",
    },
    "C-FIND": {
        Status.PENDING: "One match.",
        Status.PENDING_WITHOUT_SOME_KEYS: "One match; some optional keys are not known here and were passed over.",
        Status.SUCCESS: "No more matches.",
        Status.CANCELLED: "The peer has cancelled the query.",
        Status.OUT_OF_RESOURCES: "The database is away: ask again later.",
        Status.MISMATCH: "The identifier does not fit the information model.",
        Status.CANNOT_UNDERSTAND: "The identifier cannot be parsed.",
    },
    "C-MOVE and C-GET": {
        Status.PENDING: "Some suboperations remain.",
        Status.SUCCESS: "All was sent, or nothing is held of it.",
        Status.SOME_SUBOPERATIONS_FAILED: "Some could not be sent, or were stored with a warning; the identifier "
        "names those that failed.",
        Status.UNABLE_TO_PERFORM_SUBOPERATIONS: "None could be sent.",
        Status.UNABLE_TO_CALCULATE_MATCHES: "The database is away, or it is more than 65,535 objects.",
        Status.MOVE_DESTINATION_UNKNOWN: "No destination of the routes file has this AE title (C-MOVE only).",
        Status.MISMATCH: "The identifier names nothing by a unique key, or does not fit the information model.",
        Status.CANNOT_UNDERSTAND: "The identifier cannot be parsed.",
        Status.CANCELLED: "The peer has cancelled the retrieval.",
    },
    "Storage commitment (N-ACTION)": {
        Status.SUCCESS: "The request is in the database; the report follows by N-EVENT-REPORT.",
        Status.NO_SUCH_SOP_CLASS: "The request is for another SOP class than was negotiated.",
        Status.NO_SUCH_SOP_INSTANCE: "It is not for the well-known SOP instance.",
        Status.NO_SUCH_ACTION: "It is not Request Storage Commitment.",
        Status.INVALID_ARGUMENT_VALUE: "The Action Information is not as PS3.4 J.3.2 demands, or its Transaction UID "
        "was used for other objects.",
        Status.RESOURCE_LIMITATION: f"It names more than {MOST_ITEMS} objects, or the database is away.",
        Status.PROCESSING_FAILURE: "A fault of the node; its log has it.",
    },
    "Storage commitment, of reports that the node gets (N-EVENT-REPORT)": {
        Status.SUCCESS: "The report is in the database.",
        Status.NO_SUCH_SOP_CLASS: "The report is of another service.",
        Status.NO_SUCH_EVENT_TYPE: "It is of an event type that is none.",
        Status.INVALID_ARGUMENT_VALUE: "It cannot be read, or is on what this node has not asked for.",
        Status.PROCESSING_FAILURE: "The database is away: report again later.",
    },
    "MPPS (N-CREATE, N-SET)": {
        Status.SUCCESS: "The report is in the database, and so is what follows from the end of a step.",
        Status.NO_SUCH_SOP_CLASS: "The request is for another SOP class than was negotiated.",
        Status.NO_SUCH_ATTRIBUTE: "What was fixed at the start of the step is to be changed.",
        Status.INVALID_ATTRIBUTE_VALUE: "A value is none, or the step does not begin as IN PROGRESS.",
        Status.MISSING_ATTRIBUTE: "An attribute is missing; Error Comment names it.",
        Status.MISSING_ATTRIBUTE_VALUE: "An attribute is empty; Error Comment names it.",
        Status.DUPLICATE_SOP_INSTANCE: "There is a step with this UID (N-CREATE).",
        Status.NO_SUCH_SOP_INSTANCE: "There is none with this UID (N-SET).",
        Status.PROCESSING_FAILURE: "The step has ended and may no longer be updated (Error ID 0xA710), or the data set "
        "cannot be parsed.",
        Status.RESOURCE_LIMITATION: "The database is away, or the data set is too large.",
    },
    "STOW-RS (Failure Reason of an object)": {
        Status.OUT_OF_RESOURCES: "As with C-STORE.",
        Status.MISMATCH: "The data set is another instance than its file header's, or of another study than the path.",
        Status.CANNOT_UNDERSTAND: "The part is no DICOM file, cannot be parsed, or names a UID of more than 64 "
        "characters; or the message broke off.",
        Status.SOP_CLASS_NOT_SUPPORTED: "Objects of its SOP class are not received.",
        Status.TRANSFER_SYNTAX_NOT_SUPPORTED: "Objects in its transfer syntax are not received.",
    },
}


def conformance_page(made: str) -> str:
    """The whole statement; made: the line that says that it is made from the code."""
    offer = offered()
    defaults = Settings.model_fields["listener"].default
    text = _PAGE.format(
        made=made,
        version=IMPLEMENTATION_VERSION_NAME,
        class_uid=IMPLEMENTATION_CLASS_UID,
        ae_title=defaults.ae_title,
        port=defaults.port,
        max_pdu=defaults.max_pdu,
        max_associations=defaults.max_associations,
        idle=f"{IDLE_SECONDS:g}",
        at_once=MOST_ASSOCIATIONS,
        handshake=f"{HANDSHAKE_SECONDS:g}",
        stored=stored_classes(offer.contexts),
        others=other_classes(offer.contexts),
        sent_back=sent_back(offer.contexts),
        syntaxes=transfer_syntaxes(),
        created=created_objects(),
        warnings=", ".join(f"0x{status:04X}" for status in sorted(STORED_WITH_WARNING)),
        answers="\n\n".join(f"#### {service}\n\n{statuses(meanings)}" for service, meanings in ANSWERS.items()),
        reasons=table(("reason", "meaning"), ((f"0x{one:04X}", _REASONS[one]) for one in FailureReason)),
        keys="\n\n".join(query_attributes()),
        at_creation=_listed(AT_CREATION),
        at_the_end=_listed(AT_THE_END),
        fixed=_listed(FIXED),
        requests=requests(offer),
        most=MOST,
        inline=LARGEST_INLINE,
        ciphers=", ".join(f"`{suite}`" for suite in CIPHER_SUITES),
        scheme=SCHEME,
        codes=private_codes(),
    )
    return text.lstrip("\n")


#: What each failure reason of a commitment report means.
_REASONS = {
    FailureReason.PROCESSING_FAILURE: "It is held, but its bytes are not those that were acknowledged.",
    FailureReason.NO_SUCH_OBJECT_INSTANCE: "It is not held.",
    FailureReason.CLASS_INSTANCE_CONFLICT: "It is held as an object of another SOP class.",
}


def _listed(keywords: tuple[str, ...]) -> str:
    return ", ".join(keywords)


_PAGE = """
# DICOM conformance statement

{made}

In the order of PS3.2 Annex N (2024). What was shown to work with which peer: the table of
[interoperability](reference/interoperability.md).

## 1 Overview

Fullfield receives X-ray images from modalities, reconstructs what a collimator hid, and sends the result to an
archive beside the source. It is one application entity, by default `{ae_title}`.

| service | the node is | |
| --- | --- | --- |
| Verification | SCP and SCU | C-ECHO |
| Storage | SCP and SCU | C-STORE |
| Storage commitment, push model | SCP and SCU | N-ACTION, N-EVENT-REPORT |
| Modality performed procedure step | SCP | N-CREATE, N-SET |
| Query/Retrieve, study root and patient root | SCP | C-FIND, C-MOVE, C-GET |
| Query/Retrieve, study root | SCU | C-FIND, C-MOVE |
| DICOMweb | origin server, user agent of STOW-RS | see 6.4 |

Media are neither written nor read.

## 2 Introduction

For integrators who connect Fullfield to a modality, a PACS or a viewer; they know DICOM. This page is made from the
tables that the program negotiates from, so that it says what the program does. It does not replace a test with the
peer in question. Numbers and defaults can be changed where [settings](reference/settings.md) or
[routes](reference/routes.md) have a key for them.

## 3 Implementation model

    modality --C-STORE, MPPS, N-ACTION--> FULLFIELD --C-STORE, STOW-RS, N-ACTION--> PACS
    viewer --C-FIND, C-MOVE, C-GET, DICOMweb--> FULLFIELD --C-STORE--> destination of a C-MOVE

An object is on the disk before it is acknowledged. When its series is complete, the route that it takes makes a job;
the job's results are sent to the destinations of the route. [The way of the data](explanation/the-way-of-the-data.md)
has the steps.

## 4 Services

### 4.1 Storage SCP

Level 2 (full): all attributes are kept, private ones too, byte for byte as they came. Nothing is coerced.
A request that names its SOP instance by more than 64 characters (PS3.5 9.1) is answered by an A-ABORT.

{stored}

### 4.2 Storage SCU

Results go out as in 8.1. What is passed on and what a C-MOVE sends goes out in its own transfer syntax, or decoded in
*uncompressed* where the peer takes no other form. Big endian is never proposed for results. 0x0000 and 0x0111 count
as stored, and so do the warnings {warnings}, which are told in the audit trail. 0xA7xx, silence
and a lost connection are tried again for a week, ever more rarely; any other status is a refusal, and the job fails.

### 4.3 Storage commitment SCP

Committed is what has its row and its bytes, compared with their digest, when the report is made. The report goes over
the association that asked, another one that the peer has open, or a new one to the `port` of its entry in
`[[listener.allow]]`, until the peer has taken it. An object that is not committed has its reason:

{reasons}

### 4.4 Storage commitment SCU

A destination with `commitment = true` is asked when it has acknowledged all of a job. Its report is taken over the
same association, or over one that it opens to the node with the role of SCP. What it does not commit to is sent again
and asked for again.

### 4.5 Modality performed procedure step SCP

COMPLETED or DISCONTINUED closes the series of the step. All attributes are kept as they are reported.

- Required with N-CREATE: {at_creation}.
- Required when the step ends: {at_the_end}.
- Not to be changed by N-SET: {fixed}.

### 4.6 Query/Retrieve SCP

Originals and results are found alike; what was kept aside is not. Keys of a level are those of the level itself and of
all levels above. Relational queries, and dates and times matched as one, are agreed on where the peer asks for them
(PS3.4 C.5.1.1). Names of persons match without regard to case and accents; all other values match literally. A
C-MOVE goes to a destination of the routes file, by its AE title. Retrievals need the unique key of their level; those
of the levels above may be left out.

{keys}

### 4.7 Query/Retrieve SCU

Where a route has `fetch_priors`, the node asks that destination for the series of a study (C-FIND, study root, level
SERIES) and then for one after another of those that it lacks (C-MOVE, level SERIES) to `listener.ae_title`; no
relational queries, and no C-CANCEL. A C-STORE whose Move Originator is the node is kept and reconstructed by no route.
0xA7xx, a failure to send (0xCxxx), silence and a lost connection are tried again for a week, ever more rarely. Where a
part has come (0xB000), the rest is asked for in ten attempts, and what is lacking then is told with the numbers. Any
other failure ends the fetch.

Where a route has `refetch`, an original whose file is damaged is looked for (C-FIND, level IMAGE) and asked for
(C-MOVE, level IMAGE) likewise. What then comes under its SOP Instance UID takes its place, if it is of the same SOP
class, study and series, and lost nothing on the way.

## 5 Configuration

AE titles, each with the peers that may call it and its limits; address, ports, TLS and DICOMweb:
[settings](reference/settings.md). Destinations and what each gets: [routes](reference/routes.md). Neither routes nor
certificates need a restart: the node reads both again on SIGHUP.

## 6 Network communication

### 6.1 Association acceptance

| | |
| --- | --- |
| Application context | 1.2.840.10008.3.1.1.1 |
| Port | {port}, and another for TLS |
| Largest PDU received | {max_pdu} bytes |
| Associations at once | {max_associations}; one more is rejected for now |
| Outstanding operations (asynchronous window) | 1; not negotiated |
| Without a byte for | {idle} s: the association is aborted |
| Implementation Class UID | {class_uid} |
| Implementation Version Name | {version} |
| SCU/SCP role selection | for objects of a C-GET, and for reports on storage commitment |
| User identity | not looked at |

| an association is rejected | result, source, reason (PS3.8 9.3.4) |
| --- | --- |
| that calls none of the node's AE titles | permanent, user, called AE title not recognized |
| whose AE title, address or certificate is not allowed | permanent, user, calling AE title not recognized |
| when too many are open, or objects come too fast, with the title | transient, presentation, local limit exceeded |

Of the transfer syntaxes of one proposed context the first that loses nothing is accepted, in the order in which the
peer proposes them; lossy ones only where nothing else is proposed. Settings can name what comes first for a peer. Where
objects may be sent to the peer over the context, those without compression come first.

{syntaxes}

{others}

With C-GET, objects of all storage SOP classes go back: annex 8.4.

### 6.2 Association initiation

Results go to a destination when they are due there, over as many associations at a time as its `associations` says: 1
unless it is set, {at_once} at most. The objects of a study go one after another. Unless it has `compressed = false`,
an association without any message asks first in which transfer syntaxes it takes pictures. What a C-MOVE sends,
requests for storage commitment and fetches go over associations of their own. Each is released when all of that is
done. Each transfer syntax is proposed in a context of its own.

A destination is called by its `ae_title`, as its `calling_ae`, else as `listener.ae_title`, or, for a C-MOVE, as the
title that was asked. With `tls = true` it is called over TLS only, and has to show a certificate with the name in its
`certificate`, else with its `host`.

| activity | SOP classes | role |
| --- | --- | --- |
| sending results | 8.1 | SCU |
| passing on, C-MOVE | that of the object | SCU |
| asking for storage commitment | Storage Commitment Push Model | SCU |
| reporting on storage commitment | Storage Commitment Push Model | SCP, by role selection |
| fetching other series of a study, and damaged originals again | Study Root Query/Retrieve, FIND and MOVE | SCU |
| `fullfield doctor` | Verification | SCU |

### 6.3 Statuses

{answers}

### 6.4 DICOMweb

Where `web.port` is set, at `http://HOST:PORT`. HTTP/1.1; a client shows a bearer token or a password.

{requests}

STOW-RS takes `application/dicom`, alone or in `multipart/related`; the answer is 200 when all is stored, 202 when some
is, 409 when none is, 413 when all are larger than `listener.max_object_mb` or the message than the room on the disk,
503 when the disk is nearly full or the database is away, as `application/dicom+json` or `application/dicom+xml`.
QIDO-RS answers as `application/dicom+json`, {most} matches at most at once, with `limit`, `offset` and `includefield`;
`fuzzymatching` is passed over with a warning. Its keys are those of 4.6.

WADO-RS gives whole objects as `application/dicom`, in `multipart/related` or one alone: as they are stored with
`transfer-syntax=*`, else in the transfer syntax that is named, made without loss, else in explicit little endian.
Metadata are `application/dicom+json`, or `application/dicom+xml` in parts; binary values of more than {inline} bytes
are told by BulkDataURI. Frames and pixel data are `application/octet-stream` in little endian, or the code streams as
they are stored. Pictures are `image/jpeg` or `image/png`, with `viewport`, `window` and `quality`; of several frames
that which Representative Frame Number names, else the first. Refusals: 400 for a path or a query that says nothing, 404
for what is not held, 406 for a form in which it cannot be had; 206 where some of what is asked for is lost.

As user agent of STOW-RS the node stores results at each destination that has a `url`: one object a request, in
`multipart/related`, as it was made. Stored is what is answered 200, or 202 without a Failure Reason for it, or Failure
Reason 0x0111. Failure Reason 0xA7xx, and every status but 400, 409, 413, 415 and 422, is tried again; redirects are not
followed. HTTP Basic authentication or a bearer token, TLS by `https`.

## 7 Security

TLS after the BCP 195 RFC 8996, 9325 profile (PS3.15 B.12): TLS 1.3, or 1.2 with {ciphers}. Both sides show a
certificate, always; a name in it can be bound to an AE title. No renegotiation, no resumption, no fallback to a
connection without TLS. A handshake takes {handshake} s at most.

Every association that is refused, every object, query, retrieval and report leaves a row in an audit trail that shows
tampering; its terms are those of PS3.15 A.5.

## 8 Annexes

### 8.1 Objects created

{created}

Results are in a new series of the source's study. Synthetic Data (0008,001C) is YES and Image Type is
DERIVED\\SECONDARY with GENERATED. UIDs are derived from those of the source by UUID (2.25), so that a retry sends the
same objects. Generated pixels are marked as `mark` of the route says. Private attributes of the source are dropped,
but for the blocks of the `private_creators` of the route, which the pictures take over.
[What arrives in PACS](how-to/results.md) tells more.

### 8.2 Character sets

Received objects keep theirs. Results repeat the source's Specific Character Set where it is one of the standard's
(PS3.3 C.12.1.1.2), but for ISO_IR 13. Where the source names ISO_IR 13, no set that there is, or none at all, results
whose text is not ASCII have ISO_IR 192. So have presentation states and reports where the set cannot write the label
of `mark`. Answers to queries: that of the query where it has all characters, else ISO_IR 100, else ISO_IR 192.
DICOMweb: ISO_IR 192. MPPS: any that can be decoded.

### 8.3 Codes

Reports use codes of DCM, SCT and UCUM, and of the private scheme `{scheme}`, which each report declares:

{codes}

### 8.4 Objects sent back by C-GET

{sent_back}

### 8.5 Not supported

Modality worklist, instance availability notification, print, unified procedure step, hanging protocols, media, MPPS as
SCU, C-GET as SCU, asynchronous operations, user identity, Kerberos and SAML, video (MPEG) and SMPTE transfer
syntaxes, JPEG XL, fuzzy matching, empty-value and multiple-value matching.
"""
