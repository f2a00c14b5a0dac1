import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from inference.composite import compose
from inference.grey_mapping import GreyMapping


@given(data=st.data(), bits=st.integers(8, 16), signed=st.booleans(), inverted=st.booleans())
def test_measured_pixels_leave_as_they_came_whatever_they_are(data, bits, signed, inverted):
    mapping = GreyMapping.full_range(bits_stored=bits, signed=signed, inverted=inverted)
    shape = data.draw(arrays.array_shapes(min_dims=2, max_dims=2, min_side=16, max_side=24))
    stored = data.draw(arrays.arrays(mapping.dtype, shape))  # any bits, unused high ones too
    generated = data.draw(arrays.arrays(np.float32, shape, elements=st.floats(-1, 1, width=32)))
    aperture = data.draw(arrays.arrays(bool, shape))

    full = compose(stored, generated, aperture, mapping)

    assert full.dtype == stored.dtype
    assert np.array_equal(full[aperture], stored[aperture])
    assert np.array_equal(full[~aperture], mapping.to_stored(generated)[~aperture])
    assert (full[~aperture] >= mapping.lowest).all() and (full[~aperture] <= mapping.highest).all()
