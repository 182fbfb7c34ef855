"""The space `network-zoo`: traced networks."""

from __future__ import annotations

import pytest

from diffnag.search_spaces.network_zoo.space import NetworkZoo
from diffnag.testing import SearchSpaceContract


class TestNetworkZoo(SearchSpaceContract):
    @pytest.fixture
    def space(self):
        return NetworkZoo()
