"""Quantities are Kubernetes', exact, and told in JupyterHub's units."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiled_spawner.document.quantity import (
    check_resource,
    format_amount,
    format_bytes,
    format_cores,
    is_whole_and_equal,
    parse_quantity,
)
from profiled_spawner.errors import QuantityError

FACTORS = {
    "": Fraction(1),
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    "k": Fraction(1000),
    "M": Fraction(1000**2),
    "G": Fraction(1000**3),
    "T": Fraction(1000**4),
    "P": Fraction(1000**5),
    "E": Fraction(1000**6),
    "Ki": Fraction(1024),
    "Mi": Fraction(1024**2),
    "Gi": Fraction(1024**3),
    "Ti": Fraction(1024**4),
    "Pi": Fraction(1024**5),
    "Ei": Fraction(1024**6),
}


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        pytest.param("1", "1", id="whole"),
        pytest.param("0", "0", id="zero"),
        pytest.param("-0", "0", id="negative-zero"),
        pytest.param("500m", "0.5", id="milli"),
        pytest.param("1.5", "1.5", id="decimal"),
        pytest.param(".5", "0.5", id="no-digit-before-the-point"),
        pytest.param("5.", "5", id="no-digit-behind-the-point"),
        pytest.param("+1", "1", id="plus"),
        pytest.param("007", "7", id="leading-zeros"),
        pytest.param("0" * 63 + "1", "1", id="sixty-four-characters"),
        pytest.param("1n", "0.000000001", id="nano"),
        pytest.param("1u", "0.000001", id="micro"),
        pytest.param("1k", "1000", id="kilo"),
        pytest.param("2G", "2000000000", id="giga"),
        pytest.param("1E", "1000000000000000000", id="exa"),
        pytest.param("1Ki", "1024", id="kibi"),
        pytest.param("2Gi", "2147483648", id="gibi"),
        pytest.param("1.5Gi", "1610612736", id="gibi-and-a-half"),
        pytest.param("7Ei", "8070450532247928832", id="exbi"),
        pytest.param("1e3", "1000", id="exponent"),
        pytest.param("1E3", "1000", id="capital-exponent"),
        pytest.param("1e+3", "1000", id="exponent-with-plus"),
        pytest.param("1e-3", "0.001", id="negative-exponent"),
        pytest.param("0e999", "0", id="zero-with-a-large-exponent"),
        pytest.param("9223372036854775807", "9223372036854775807", id="largest"),
        pytest.param("0.1", "0.1", id="not-a-binary-fraction"),
        pytest.param("1.000000001", "1.000000001", id="as-fine-as-kubernetes-holds"),
    ],
)
def test_a_quantity_is_exactly_what_it_says(text: str, amount: str) -> None:
    quantity = parse_quantity(text)

    assert quantity.amount == Decimal(amount)
    assert quantity.text == text
    assert str(quantity) == text


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        pytest.param("0.1n", "0.000000001", id="part-of-a-billionth"),
        pytest.param("1.0000000001", "1.000000001", id="too-many-digits"),
        pytest.param("0.3333333333333333", "0.333333334", id="float-of-the-hub"),
        pytest.param("1e-999", "0.000000001", id="far-too-fine"),
        pytest.param("0." + "0" * 61 + "1", "0.000000001", id="as-fine-as-it-can-be-written"),
    ],
)
def test_what_is_finer_than_a_billionth_is_rounded_up(text: str, amount: str) -> None:
    assert parse_quantity(text).amount == Decimal(amount)
    assert parse_quantity(text).text == text


@pytest.mark.parametrize(
    ("smaller", "larger"),
    [
        pytest.param("1G", "1Gi", id="powers-of-1000-and-of-1024"),
        pytest.param("999m", "1", id="milli"),
        pytest.param("9223372036854775806", "9223372036854775807", id="closer-than-a-float-tells"),
        pytest.param("0.1", "0.100000001", id="nano-apart"),
        pytest.param("1", "1000000001n", id="across-units"),
    ],
)
def test_quantities_are_ordered_by_amount(smaller: str, larger: str) -> None:
    assert parse_quantity(smaller) < parse_quantity(larger)
    assert not parse_quantity(larger) < parse_quantity(smaller)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param("1Gi", "1024Mi", id="units"),
        pytest.param("0.5", "500m", id="milli"),
        pytest.param("1e3", "1k", id="exponent"),
        pytest.param("1", "1.0", id="trailing-zero"),
        pytest.param("0", "0Gi", id="zeros"),
    ],
)
def test_one_amount_written_in_two_ways_is_equal(one: str, other: str) -> None:
    assert parse_quantity(one) == parse_quantity(other)
    assert hash(parse_quantity(one)) == hash(parse_quantity(other))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("2GB", "2GB is not a Kubernetes quantity; did you mean 2Gi or 2G?", id="bytes"),
        pytest.param("2gb", "2gb is not a Kubernetes quantity; did you mean 2Gi or 2G?", id="small-bytes"),
        pytest.param("2g", "2g is not a Kubernetes quantity; did you mean 2Gi or 2G?", id="small-giga"),
        pytest.param("2GiB", "2GiB is not a Kubernetes quantity; did you mean 2Gi?", id="gibibytes"),
        pytest.param("2gi", "2gi is not a Kubernetes quantity; did you mean 2Gi?", id="small-gibi"),
        pytest.param("512MB", "512MB is not a Kubernetes quantity; did you mean 512Mi or 512M?", id="megabytes"),
        pytest.param("1K", "1K is not a Kubernetes quantity; did you mean 1Ki or 1k?", id="capital-kilo"),
        pytest.param("100B", "100B is not a Kubernetes quantity; did you mean 100?", id="plain-bytes"),
        pytest.param("2 Gi", "2 Gi is not a Kubernetes quantity; did you mean 2Gi?", id="space"),
        pytest.param("1,5", "1,5 is not a Kubernetes quantity; did you mean 1.5?", id="comma"),
        pytest.param("500mcpu", "500mcpu is not a Kubernetes quantity; did you mean 500m?", id="millicpu"),
        pytest.param("2 cores", "2 cores is not a Kubernetes quantity; did you mean 2?", id="cores"),
        pytest.param("1EB", "1EB is not a Kubernetes quantity; write it as 500m, 1.5 or 2Gi", id="exabytes"),
        pytest.param("1Em", "1Em is not a Kubernetes quantity; write it as 500m, 1.5 or 2Gi", id="two-units"),
        pytest.param("5x", "5x is not a Kubernetes quantity; write it as 500m, 1.5 or 2Gi", id="unknown-unit"),
        pytest.param("-1", "-1 is negative; a quantity is 0 or more", id="negative"),
        pytest.param("-500m", "-500m is negative; a quantity is 0 or more", id="negative-milli"),
        pytest.param("-1e-999", "-1e-999 is negative; a quantity is 0 or more", id="barely-negative"),
        pytest.param("8Ei", "8Ei is more than Kubernetes can hold (2^63 - 1)", id="too-large"),
        pytest.param(
            "9223372036854775808", "9223372036854775808 is more than Kubernetes can hold (2^63 - 1)", id="2^63"
        ),
        pytest.param("1e999", "1e999 is more than Kubernetes can hold (2^63 - 1)", id="far-too-large"),
    ],
)
def test_what_is_no_quantity_is_refused_with_what_was_likely_meant(text: str, message: str) -> None:
    with pytest.raises(QuantityError) as refusal:
        parse_quantity(text)

    assert str(refusal.value) == message


@pytest.mark.parametrize(
    ("resource", "text", "message"),
    [
        pytest.param("cpu", "1000mi", "1000mi is not a Kubernetes quantity; did you mean 1000m?", id="milli-as-mebi"),
        pytest.param("cpu", "2 cores", "2 cores is not a Kubernetes quantity; did you mean 2?", id="cores"),
        pytest.param("cpu", "2gb", "2gb is not a Kubernetes quantity; write it as 500m or 1.5", id="bytes-of-cpu"),
        pytest.param("cpu", "half", "not a Kubernetes quantity, such as 500m or 1.5", id="word-for-cpu"),
        pytest.param("memory", "2GB", "2GB is not a Kubernetes quantity; did you mean 2Gi or 2G?", id="bytes"),
        pytest.param("memory", "5x", "5x is not a Kubernetes quantity; write it as 512Mi or 2Gi", id="unknown-unit"),
        pytest.param("nvidia.com/gpu", "two", "not a whole number, such as 1", id="word-for-pieces"),
        pytest.param("nvidia.com/gpu", "1GB", "not a whole number, such as 1", id="bytes-of-pieces"),
    ],
)
def test_what_is_suggested_is_what_the_resource_can_have(resource: str, text: str, message: str) -> None:
    with pytest.raises(QuantityError) as refusal:
        parse_quantity(text, resource)

    assert str(refusal.value) == message


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("half", id="word"),
        pytest.param("Gi", id="unit-alone"),
        pytest.param("NaN", id="not-a-number"),
        pytest.param("Infinity", id="infinity"),
        pytest.param("0x10", id="hexadecimal"),
        pytest.param("1_000", id="underscore"),
        pytest.param("1.2.3", id="two-points"),
        pytest.param("٣", id="digit-of-another-script"),
        pytest.param("²", id="superscript"),
        pytest.param("1\n", id="line-end"),
        pytest.param(" 1", id="leading-space"),
        pytest.param("1e1000", id="exponent-of-four-digits"),
        pytest.param("9" * 65, id="too-long"),
        pytest.param("hunter2", id="password"),
    ],
)
def test_what_is_nothing_like_a_quantity_is_not_quoted(text: str) -> None:
    with pytest.raises(QuantityError) as refusal:
        parse_quantity(text)

    assert str(refusal.value) == "not a Kubernetes quantity, such as 500m, 1.5 or 2Gi"


@given(st.text(max_size=80) | st.from_regex(r"[+-]?[0-9.]{1,40}([A-Za-z]{1,3}|[eE][+-]?[0-9]{1,4})?", fullmatch=True))
@settings(deadline=None)
def test_any_text_is_a_quantity_or_a_quantity_error(text: str) -> None:
    try:
        quantity = parse_quantity(text)
    except QuantityError:
        return

    assert 0 <= quantity.amount <= 2**63 - 1
    assert quantity.text == text


quantities = st.tuples(
    st.integers(0, 10**6), st.integers(0, 999), st.sampled_from([suffix for suffix in FACTORS if suffix not in "nu"])
).filter(lambda parts: (parts[0] + 1) * FACTORS[parts[2]] < 2**63)


def write(parts: tuple[int, int, str]) -> str:
    whole, thousandths, suffix = parts
    return f"{whole}.{thousandths:03}{suffix}"


def exact(parts: tuple[int, int, str]) -> Fraction:
    whole, thousandths, suffix = parts
    return (whole + Fraction(thousandths, 1000)) * FACTORS[suffix]


@given(quantities, quantities)
@settings(deadline=None)
def test_quantities_compare_as_exact_fractions_do(one: tuple[int, int, str], other: tuple[int, int, str]) -> None:
    left, right = parse_quantity(write(one)), parse_quantity(write(other))

    assert Fraction(left.amount) == exact(one)
    assert (left < right, left == right) == (exact(one) < exact(other), exact(one) == exact(other))


@pytest.mark.parametrize(
    ("resource", "text", "limit"),
    [
        pytest.param("memory", "1Gi", True, id="memory-limit"),
        pytest.param("memory", "2000m", True, id="whole-bytes-written-in-milli"),
        pytest.param("memory", "0", False, id="no-memory-guaranteed"),
        pytest.param("cpu", "0", False, id="no-cpu-guaranteed"),
        pytest.param("cpu", "1n", True, id="fraction-of-a-core"),
        pytest.param("nvidia.com/gpu", "0", True, id="no-gpu"),
        pytest.param("nvidia.com/gpu", "1k", True, id="many-gpus"),
        pytest.param("ephemeral-storage", "0", True, id="no-storage"),
        pytest.param("nvidia.com/gpu", "9223372036854775", True, id="as-many-gpus-as-can-be-counted"),
        pytest.param("hugepages-2Mi", "4Mi", True, id="huge-pages"),
        pytest.param("hugepages-2Mi", "0", True, id="no-huge-pages"),
        pytest.param("hugepages-1Gi", "1048576Ki", False, id="a-huge-page-in-another-unit"),
    ],
)
def test_a_resource_can_have(resource: str, text: str, limit: bool) -> None:
    check_resource(resource, parse_quantity(text), limit=limit)


@pytest.mark.parametrize(
    ("resource", "text", "limit", "message"),
    [
        pytest.param(
            "memory",
            "0",
            True,
            "a memory limit cannot be 0; leave it out, or write null for no limit",
            id="no-memory",
        ),
        pytest.param(
            "cpu",
            "0m",
            True,
            "a cpu limit cannot be 0m; leave it out, or write null for no limit",
            id="no-cpu",
        ),
        pytest.param("memory", "512m", True, "512m means 0.512 bytes; did you mean 512Mi?", id="milli-bytes"),
        pytest.param("memory", "1500m", False, "1500m means 1.5 bytes; did you mean 1500Mi?", id="milli-guarantee"),
        pytest.param("memory", "1.5", False, "1.5 means 1.5 bytes; write whole bytes", id="half-a-byte"),
        pytest.param("memory", "1n", True, "1n means 0.000000001 bytes; write whole bytes", id="nano-bytes"),
        pytest.param(
            "ephemeral-storage", "1m", True, "1m means 0.001 bytes; did you mean 1Mi?", id="fraction-of-storage"
        ),
        pytest.param("hugepages-2Mi", "1m", True, "1m means 0.001 bytes; did you mean 1Mi?", id="fraction-of-a-page"),
        pytest.param(
            "hugepages-2Mi",
            "3Mi",
            True,
            "3Mi is not a whole number of pages; write a multiple of 2Mi",
            id="page-and-a-half",
        ),
        pytest.param(
            "hugepages-1Gi",
            "1G",
            False,
            "1G is not a whole number of pages; write a multiple of 1Gi",
            id="not-quite-a-page-guaranteed",
        ),
        pytest.param(
            "nvidia.com/gpu",
            "9223372036854776",
            True,
            "9223372036854776 is more than Kubernetes can count (9223372036854775)",
            id="more-gpus-than-can-be-counted",
        ),
        pytest.param(
            "nvidia.com/gpu",
            "500m",
            True,
            "500m is not a whole number; nvidia.com/gpu has only whole units",
            id="half-a-gpu",
        ),
        pytest.param(
            "nvidia.com/gpu",
            "0.5",
            False,
            "0.5 is not a whole number; nvidia.com/gpu has only whole units",
            id="half-a-gpu-guaranteed",
        ),
    ],
)
def test_a_resource_cannot_have(resource: str, text: str, limit: bool, message: str) -> None:
    with pytest.raises(QuantityError) as refusal:
        check_resource(resource, parse_quantity(text), limit=limit)

    assert str(refusal.value) == message


@pytest.mark.parametrize(
    ("resource", "equal"),
    [
        pytest.param("nvidia.com/gpu", True, id="extended"),
        pytest.param("hugepages-2Mi", True, id="huge-pages"),
        pytest.param("cpu", False, id="cpu"),
        pytest.param("memory", False, id="memory"),
        pytest.param("ephemeral-storage", False, id="storage"),
    ],
)
def test_request_equals_limit_for_what_cannot_be_overcommitted(resource: str, equal: bool) -> None:
    assert is_whole_and_equal(resource) is equal


@pytest.mark.parametrize(
    ("text", "written"),
    [
        pytest.param("1Gi", "1073741824", id="gibi"),
        pytest.param("1G", "1000000000", id="giga"),
        pytest.param("1e3", "1000", id="exponent"),
        pytest.param("1.5Gi", "1610612736", id="fraction"),
        pytest.param("7Ei", "8070450532247928832", id="no-float"),
        pytest.param("0", "0", id="zero"),
        pytest.param("1500m", "2", id="the-hubs-own-fraction-of-a-byte-rounds-up"),
    ],
)
def test_bytes_are_whole_numbers(text: str, written: str) -> None:
    assert format_bytes(parse_quantity(text)) == written


@pytest.mark.parametrize(
    ("text", "written"),
    [
        pytest.param("500m", "0.5", id="milli"),
        pytest.param("1", "1", id="one"),
        pytest.param("1.50", "1.5", id="trailing-zero"),
        pytest.param("10", "10", id="no-exponent"),
        pytest.param("1e2", "100", id="from-an-exponent"),
        pytest.param("100n", "0.001", id="finer-than-the-api-server-counts"),
        pytest.param("1.0001", "1.001", id="rounded-up-as-the-api-server-does"),
        pytest.param("7Ei", "8070450532247928832", id="no-float"),
        pytest.param("0m", "0", id="zero"),
    ],
)
def test_cores_are_plain_decimals(text: str, written: str) -> None:
    assert format_cores(parse_quantity(text)) == written


@pytest.mark.parametrize(
    ("resource", "text", "shown"),
    [
        pytest.param("memory", "2Gi", "2Gi", id="as-written"),
        pytest.param("cpu", "500m", "500m", id="milli"),
        pytest.param("memory", "1073741824", "1Gi", id="the-hubs-bytes"),
        pytest.param("memory", "1572864", "1536Ki", id="largest-unit-that-fits"),
        pytest.param("memory", "1000", "1000", id="no-unit-fits"),
        pytest.param("cpu", "1024", "1024", id="cores-have-no-binary-units"),
        pytest.param("cpu", "2.0", "2", id="the-hubs-cores"),
        pytest.param("cpu", "0.5", "0.5", id="half-a-core"),
        pytest.param("memory", "0", "0", id="zero"),
    ],
)
def test_an_amount_is_told_to_people_in_short(resource: str, text: str, shown: str) -> None:
    assert format_amount(resource, parse_quantity(text)) == shown
