"""Makes ``twistd mechamap`` known to twistd."""

from twisted.application.service import ServiceMaker

mechamap = ServiceMaker("mechamap_rt", "mechamap_rt.tap", "The realtime layer of a community site.", "mechamap")
