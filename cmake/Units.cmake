# What surrounds image-cachectl on a host: units of systemd, its user and directory, an example of the configuration, a dashboard.
set(share_source "${CMAKE_CURRENT_SOURCE_DIR}/share")
# Not below LIBDIR: systemd reads lib/ on every architecture.
set(IMAGE_CACHE_SYSTEMD_DIR "lib" CACHE STRING "Where systemd/system, sysusers.d and tmpfiles.d are, below the prefix")
file(GLOB units CONFIGURE_DEPENDS "${share_source}/systemd/*.service" "${share_source}/systemd/*.timer")
install(FILES ${units} DESTINATION "${IMAGE_CACHE_SYSTEMD_DIR}/systemd/system")
foreach(kind sysusers tmpfiles)
  install(FILES "${share_source}/systemd/image-cache.${kind}.conf" DESTINATION "${IMAGE_CACHE_SYSTEMD_DIR}/${kind}.d"
          RENAME image-cache.conf)
endforeach()
install(FILES "${share_source}/image-cache.toml" DESTINATION "${CMAKE_INSTALL_DATADIR}/image-cache")
install(FILES "${share_source}/grafana/image-cache.json" DESTINATION "${CMAKE_INSTALL_DATADIR}/image-cache/grafana")
